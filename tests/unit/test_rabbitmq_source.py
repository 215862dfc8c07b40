from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import parse_pipeline
from tidemill.config.fingerprint import fingerprint
from tidemill.config.project import json_schema, load_project
from tidemill.errors import ConfigError, SourceError, StateError
from tidemill.execution.failures import explained
from tidemill.ledger import inputs, streams
from tidemill.ledger.streams import Begun
from tidemill.model.rabbitmq import Address

RABBIT: dict[str, Any] = {"url": "amqp://broker", "queue": "orders", "schema": "id BIGINT, at TIMESTAMP"}


def pipeline(**changes: Any) -> dict[str, Any]:
    rabbit = {key: value for key, value in (RABBIT | changes).items() if value is not None}
    return {
        "name": "events",
        "source": {"rabbitmq": rabbit},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": "out"}},
    }


def parsed(**changes: Any) -> Any:
    return parse_pipeline(pipeline(**changes), "project")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": None}, "Field required"),
        ({"url": "broker:5672"}, "no address of a broker: write amqp://USER:PASSWORD@HOST:PORT/VHOST"),
        ({"url": "amqp://broker:port"}, "no address of a broker"),
        ({"url": "amqp://me:pass#word@broker"}, "no address of a broker"),
        ({"url": "amqps://broker"}, "TLS"),
        ({"queue": ""}, "at least 1 character"),
        ({"exchange": {"name": "x", "type": "topic"}}, "needs routing_keys"),
        ({"exchange": {"name": "x", "routing_keys": ["a"]}}, "a fanout exchange has no routing keys"),
        ({"exchange": {"name": "x", "type": "direct", "routing_keys": ["a,b"]}}, "has no comma"),
        ({"exchange": {"name": "x", "type": "headers"}}, "'fanout', 'topic' or 'direct'"),
        ({"starting": "last"}, "'first' or 'next'"),
        ({"starting": -1}, "'first' or 'next'"),
        ({"schema": None}, "json values need a schema"),
        ({"format": "raw"}, "raw values have no schema"),
        ({"with": ["topic"]}, "'offset', 'exchange'"),
        ({"max_records_per_batch": 0}, "greater than or equal to 1"),
        ({"que": "a"}, "unknown key 'que'"),
    ],
)
def test_what_is_wrong_with_it_is_said(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as raised:
        parsed(**changes)
    assert message in raised.value.message
    assert "pass#word" not in raised.value.message
    assert raised.value.params["field"].startswith("source.rabbitmq")


def test_a_queue_is_one_input():
    value = pipeline()
    other = {"rabbitmq": RABBIT | {"max_records_per_batch": 5}}
    value |= {"sources": {"a": value.pop("source"), "b": other}, "transform": {"sql": "SELECT * FROM a"}}
    with pytest.raises(ConfigError, match="two sources are one, a and b: name it once"):
        parse_pipeline(value, "project")
    other["rabbitmq"]["url"] = "amqp://another"
    assert len(parse_pipeline(value, "project").inputs) == 2


def test_it_is_not_static():
    value = pipeline()
    value["source"]["static"] = True
    with pytest.raises(ConfigError, match="a stream has no end up to which"):
        parse_pipeline(value, "project")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://broker", Address("broker", 5672, "/", "guest", "guest")),
        ("amqp://broker/", Address("broker", 5672, "/", "guest", "guest")),
        ("amqp://a%40b:p%2Fw@broker:5673/%2Fsales", Address("broker", 5673, "/sales", "a@b", "p/w")),
    ],
)
def test_an_address_is_read_with_what_stands_for_itself(url: str, address: Address):
    assert Address.of(url) == address


def test_a_name_is_enough_for_an_exchange():
    assert parsed(exchange="orders").inputs["events"].rabbitmq.exchange.type == "fanout"


def test_secrets_are_references_and_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ORDERS_PASSWORD", "hunter2")
    folder = tmp_path / "conf/pipelines"
    folder.mkdir(parents=True)
    body = pipeline(url="amqp://tide:${env:ORDERS_PASSWORD}@broker/")
    (folder / "events.yml").write_text(json.dumps(body))

    found = load_project(tmp_path).pipeline("events")

    source = found.inputs["events"].rabbitmq
    assert source.address.password == "hunter2"  # noqa: S105  # nobody's
    assert "hunter2" not in f"{found!r} {source.address!r}"
    assert "hunter2" not in found.model_dump_json()


def test_how_it_is_reached_does_not_decide_what_its_rows_are():
    plain = fingerprint(parsed(), "project")
    same = [
        {"url": "amqp://other"},
        {"max_records_per_batch": 5},
        {"exchange": "x"},
        {"reconnect_seconds": 1},
    ]
    other = [{"queue": "others"}, {"with": ["message_id"]}, {"format": "string", "schema": None}]
    assert {fingerprint(parsed(**each), "project") for each in same} == {plain}
    assert plain not in {fingerprint(parsed(**each), "project") for each in other}


def test_the_json_schema_knows_it():
    assert "exchange" in json_schema()["$defs"]["RabbitSource"]["properties"]


def test_where_streams_began_is_kept_by_input(tmp_path: Path):
    state = str(tmp_path)
    with pytest.raises(StateError, match="does not say where the stream of one began"):
        streams.begun(state, "one")
    streams.write(state, "one", Begun("orders", 3))
    streams.write(state, "two", Begun("stock", 0))
    assert (streams.begun(state, "one"), streams.begun(state, "two")) == (
        Begun("orders", 3),
        Begun("stock", 0),
    )
    (tmp_path / "streams.json").write_text("[")
    with pytest.raises(StateError, match="is damaged"):
        streams.begun(state, "one")


def test_an_offset_is_told():
    assert inputs.describe_offsets({"offset": 7}) == "offset 7"
    assert inputs.describe_offsets({"offset": {"0": 7}}) == "offset/0 7"  # a topic of that name


def test_what_a_source_in_python_raised_is_told_as_it_was():
    error = RuntimeError(
        "[PYTHON_DATA_SOURCE_ERROR] Traceback ...\n"
        "tidemill.errors.ConfigError: queue 'q' is not of type stream\n  next: name another\nat org.apache..."
    )
    found = explained(error, parsed())
    assert isinstance(found, ConfigError)
    assert (found.message, found.next_step) == ("events: queue 'q' is not of type stream", "name another")
    assert not isinstance(found, SourceError)
