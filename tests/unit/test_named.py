"""Which of a query's sources is which input. How Spark describes them is seen in runs; here, what is made of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from tidemill.config import parse_pipeline
from tidemill.errors import ConfigError, StateError
from tidemill.execution.named import places_of, same_places
from tidemill.ledger.coverage import Coverage
from tidemill.model import Pipeline


def pipeline(**inputs: dict[str, Any]) -> Pipeline:
    return parse_pipeline(
        {
            "name": "both",
            "sources": inputs,
            "transform": {"sql": "SELECT * FROM a"},
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": "out"}},
        },
        "/",
    )


def files(path: str, **more: Any) -> dict[str, Any]:
    return {"files": {"path": path, "format": "parquet"}} | more


def topics(servers: str = "broker:9092", **what: Any) -> dict[str, Any]:
    return {"kafka": {"servers": servers, "format": "raw", **what}}


def queue(url: str) -> dict[str, Any]:
    return {"rabbitmq": {"url": url, "queue": "q", "format": "raw"}}


CASES: dict[str, list[tuple[dict[str, Any], str]]] = {
    "folders whose paths end, begin or go on alike": [
        (files(path), f"FileStreamSource[file:{path}]")
        for path in (
            "/in",
            "/data/in",
            "/mnt/data/in",
            "/data/in/more",
            "/data/in2",
            "/data:/in",
            "/a [b], c/in",
        )
    ],
    "folders of a store": [
        (files("s3://bucket/in"), "FileStreamSource[s3://bucket/in]"),
        (files("s3://bucket/my in"), "FileStreamSource[s3://bucket/my in]"),
        (files("/bucket/in"), "FileStreamSource[file:/bucket/in]"),
        ({"delta": {"path": "s3://bucket/in/table"}}, "DeltaSource[s3://bucket/in/table]"),
        ({"delta": {"path": "/bucket/in/table/"}}, "DeltaSource[file:/bucket/in/table]"),
    ],
    "topics, on brokers that may differ": [
        (topics(topics=["events"]), "KafkaV2[Subscribe[events]] at broker:9092"),
        (topics("other:9092", topics=["events"]), "KafkaV2[Subscribe[events]] at other:9092"),
        (topics(topics=["events", "more"]), "KafkaV2[Subscribe[events, more]] at broker:9092"),
        (topics(pattern="events"), "KafkaV2[SubscribePattern[events]] at broker:9092"),
        (topics(pattern="[ab]] at .*"), "KafkaV2[SubscribePattern[[ab]] at .*]] at broker:9092"),
    ],
    "partitions in an order of Spark's": [
        (
            topics(partitions={name: [1, 0] for name in "abcde"}),
            "KafkaV2[Assign[e-1, e-0, a-1, a-0, b-1, b-0, c-1, c-0, d-1, d-0]] at broker:9092",
        ),
        (topics(partitions={"a": [1]}), "KafkaV2[Assign[a-1]] at broker:9092"),
    ],
    "queues": [
        (queue("amqp://one"), "rabbitmq_stream(one 5672 / q)"),
        (queue("amqp://one/sales"), "rabbitmq_stream(one 5672 sales q)"),
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_every_input_has_its_own_place_in_any_order(case: str):
    cases = CASES[case]
    for order in itertools.islice(itertools.permutations(range(len(cases))), 200):
        made = pipeline(**{f"n{i}": cases[i][0] for i in order})
        for turned in (1, -1):
            described = [text for _, text in cases][::turned]
            assert places_of(made, described) == {
                f"n{i}": i if turned == 1 else len(cases) - 1 - i for i in range(len(cases))
            }


def test_static_inputs_and_those_that_no_source_is_of_have_no_place():
    made = pipeline(a=files("/in"), b=files("/in", static=True), c=files("/unused"))
    assert places_of(made, ["FileStreamSource[file:/in]"] * 2) == {"a": 0}  # read twice by the transform


@pytest.mark.parametrize(
    "described",
    [
        ["FileStreamSource[file:/mnt/in]", "FileStreamSource[file:/other]"],
        ["FileStreamSource[file:/in]", "rabbitmq_stream()"],
    ],
)
def test_a_source_of_no_input_is_not_passed_over_where_an_input_has_none(described: Sequence[str]):
    with pytest.raises(StateError, match="is not known for input"):
        places_of(pipeline(a=files("/in"), b=files("/other2")), described)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (files("data/in"), files("./data//in/")),
        (files("/in"), {"delta": {"path": "/in"}}),
        (topics(topics=["events"]), topics(topics=["events"], starting="latest")),
        (topics(pattern="a.*"), topics(pattern="a.*")),
        (topics(partitions={"a": [0, 1], "b": [0]}), topics(partitions={"b": [0], "a": [1, 0]})),
    ],
)
def test_two_inputs_of_one_source_are_refused(one: dict[str, Any], other: dict[str, Any]):
    with pytest.raises(ConfigError, match="two sources are one, a and b: name it once"):
        pipeline(a=one, b=other)
    assert len(pipeline(a=one, b=topics("third:9092", topics=["events"])).inputs) == 2


def test_two_inputs_that_turn_out_to_be_one_source_are_refused():
    made = pipeline(a=files("s3://bucket/in"), b=files("s3a://bucket/in"))
    with pytest.raises(ConfigError, match="inputs a and b are one source"):
        places_of(made, ["FileStreamSource[s3://bucket/in]"])


def test_an_input_keeps_its_place():
    made, described = (
        pipeline(a=files("/in"), b=files("/other")),
        [f"FileStreamSource[file:{p}]" for p in ("/in", "/other")],
    )
    read = {"a": {"place": 0, "offset": None}}

    for known in (None, read, read | {"gone": {"place": 1}}):
        assert same_places(made, Coverage(source_end=known), described) == {"a": 0, "b": 1}
    with pytest.raises(StateError, match="input a is source 1 of the stream, and was source 0"):
        same_places(made, Coverage(source_end=read), described[::-1])
