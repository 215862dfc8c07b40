"""Kafka as a source, on a real broker: what was sent is what the table holds, or its quarantine."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.services.kafka import Kafka
from tidemill import Engine
from tidemill.errors import PlanError, SourceError, StateError
from tidemill.execution.failures import explained
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request
from tidemill.sources.kafka import stream

pytestmark = pytest.mark.spark

START = datetime(2024, 5, 1, tzinfo=UTC)
EVENTS = """
name: events
source:
  kafka:
    servers: {servers}
    topics: [{topic}]
    schema: "id BIGINT NOT NULL, at TIMESTAMP, v BIGINT"
    with: [key, partition]
    max_offsets_per_batch: 15
event_time: {{column: at}}
interval: day
gate: {{max_removed: null}}
transform: {{sql: "SELECT id, at, v * {factor} AS v, key, partition FROM events"}}
sink: {{delta: {{path: data/events}}}}
"""
COUNTS = """
name: events
source:
  kafka: {{servers: "{servers}", topics: [{topic}], schema: "id BIGINT, at TIMESTAMP"}}
event_time: {{column: at, watermark: 1 hour}}
interval: day
transform: {{sql: "SELECT window.start AS at, count(*) AS n FROM events GROUP BY window(at, '1 hour')"}}
sink: {{delta: {{path: data/events}}}}
"""


def event(number: int) -> dict[str, Any]:
    return {"id": number, "at": (START + timedelta(hours=number)).isoformat(), "v": number}


def send(kafka: Kafka, topic: str, numbers: range) -> None:
    for part in (0, 1):
        mine = [number for number in numbers if number % 2 == part]
        kafka.produce(
            topic, [json.dumps(event(n)) for n in mine], partition=part, keys=[f"k{n}" for n in mine]
        )


def project(folder: Path, pipeline: str, **parts: Any) -> None:
    (folder / "conf/pipelines").mkdir(parents=True, exist_ok=True)
    (folder / "conf/pipelines/events.yml").write_text(pipeline.format(**parts))


def engine_of(folder: Path, spark: SparkSession, pipeline: str, **parts: Any) -> Engine:
    project(folder, pipeline, **parts)
    return Engine(folder, spark=spark)


def run(engine: Engine) -> Any:
    (outcome,) = engine.run("events", trigger=Trigger(available_now=True))
    if outcome.error is not None:
        raise outcome.error
    return outcome


def held(folder: Path) -> Counter[tuple[Any, ...]]:
    return Counter(
        (row["id"], row["v"], row["key"], row["partition"]) for row in rows(folder / "data/events")
    )


def wanted(numbers: range, factor: int = 1) -> Counter[tuple[Any, ...]]:
    return Counter((n, n * factor, f"k{n}", n % 2) for n in numbers)


def test_what_was_sent_is_what_the_table_holds(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    parts = {"servers": kafka.servers, "topic": topic}
    engine = engine_of(tmp_path, spark, EVENTS, factor=1, **parts)
    send(kafka, topic, range(30))
    assert run(engine).batches >= 2  # fifteen offsets at most in each
    assert held(tmp_path) == wanted(range(30))

    # A restart goes on from exactly there.
    send(kafka, topic, range(30, 40))
    run(engine)
    assert held(tmp_path) == wanted(range(40))
    assert engine.status("events")[0].unread == f"events read up to {topic}/0 20, {topic}/1 20"

    # Other code: every interval is stale; rows that the stream has not read yet are no part of the history.
    send(kafka, topic, range(40, 46))
    engine = engine_of(tmp_path, spark, EVENTS, factor=10, **parts)
    engine.backfill("events", Request(states=frozenset({State.STALE})))
    assert held(tmp_path) == wanted(range(40), factor=10)
    run(engine)
    assert held(tmp_path) == wanted(range(46), factor=10)
    assert engine.verify("events").holds


def test_late_rows_make_intervals_dirty_and_a_backfill_takes_them_in(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    engine = engine_of(tmp_path, spark, COUNTS, servers=kafka.servers, topic=topic)
    for numbers in (range(72), range(30, 33)):  # the last are late by a day and more
        send(kafka, topic, numbers)
        run(engine)
    assert engine.coverage("events").in_state(State.DIRTY) == ("2024-05-02",)
    late = Counter(n for r in (range(72), range(30, 33)) for n in r)
    send(kafka, topic, range(34, 36))  # beyond what the stream has read

    engine.backfill("events", Request(states=frozenset({State.DIRTY})))

    oracle = {START + timedelta(hours=n): count for n, count in late.items()}
    second = [r for r in rows(tmp_path / "data/events") if r["at"].day == 2]
    assert {row["at"].replace(tzinfo=UTC): row["n"] for row in second} == {
        at: n for at, n in oracle.items() if at.day == 2
    }
    assert "2024-05-02" in engine.coverage("events").in_state(State.CLEAN)


def test_what_is_no_record_is_set_aside_with_its_place(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    bad = ['{"id": 1, "at": "2024-05', '{"id": "x", "at": "2024-05-01"}', '{"id": 3}', '{"at": "2024-05-01"}']
    kafka.produce(
        topic, [json.dumps(event(0)), *bad, b'{"id": 5\xff', None, "", json.dumps(event(8))], partition=1
    )
    engine = engine_of(tmp_path, spark, EVENTS, factor=1, servers=kafka.servers, topic=topic)

    run(engine)

    assert sorted(row["id"] for row in rows(tmp_path / "data/events")) == [0, 8]
    aside = {
        row["file"]: (row["reasons"], row["record"]) for row in rows(tmp_path / "data/events_quarantine")
    }
    no_record = ["not a record of the schema"]
    assert aside == {
        f"{topic}/1/1": (no_record, bad[0]),
        f"{topic}/1/2": (no_record, bad[1]),
        f"{topic}/1/3": (["no event time (at)"], '{"id":3,"partition":1}'),
        f"{topic}/1/4": (
            ["no value for id, which is NOT NULL"],
            '{"at":"2024-05-01T00:00:00.000Z","partition":1}',
        ),
        f"{topic}/1/5": (no_record, "base64:eyJpZCI6IDX/"),
        f"{topic}/1/6": (no_record, ""),
        f"{topic}/1/7": (no_record, ""),
    }
    assert engine.verify("events").holds


def test_offsets_that_are_no_records_are_passed_over(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    # Each transaction leaves a marker, which takes an offset.
    for n in range(0, 8, 2):
        kafka.produce(topic, [json.dumps(event(n))], keys=[f"k{n}"], transaction="sender")
    engine = engine_of(tmp_path, spark, EVENTS, factor=1, servers=kafka.servers, topic=topic)
    run(engine)
    assert held(tmp_path) == Counter((n, n, f"k{n}", 0) for n in range(0, 8, 2))
    assert engine.status("events")[0].input_rows == 4
    assert engine.verify("events").holds

    # A producer's time in nanoseconds: Spark has no moment for it, and reads no record of that batch.
    kafka.produce(topic, ["{}"], times=[1_714_521_600_000_000_000])
    with pytest.raises(SourceError, match="time stamp"):
        run(engine)
    assert held(tmp_path) == Counter((n, n, f"k{n}", 0) for n in range(0, 8, 2))


def test_a_partition_that_came_later_is_read_from_its_beginning(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    engine = engine_of(tmp_path, spark, EVENTS, factor=1, servers=kafka.servers, topic=topic)
    send(kafka, topic, range(6))
    run(engine)
    kafka.grow(topic, 3)
    kafka.produce(topic, [json.dumps(event(n)) for n in (6, 7)], partition=2, keys=["k6", "k7"])
    run(engine)
    kafka.produce(topic, [json.dumps(event(8))], partition=2, keys=["k8"])  # beyond what the stream has read
    known = wanted(range(6)) + Counter((n, n, f"k{n}", 2) for n in (6, 7))
    assert held(tmp_path) == known
    assert engine.verify("events").holds


def test_some_partitions_are_read_from_where_they_are_told_to_begin(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    send(kafka, topic, range(20))
    one = EVENTS.replace(
        "topics: [{topic}]", "partitions: {{{topic}: [1]}}\n    starting: {{{topic}: {{'1': 4}}}}"
    )
    engine = engine_of(tmp_path, spark, one, factor=1, servers=kafka.servers, topic=topic)
    run(engine)
    send(kafka, topic, range(20, 24))
    run(engine)
    # The odd numbers are in partition 1, and its first four records are passed over: in history, too.
    assert held(tmp_path) == Counter((n, n, f"k{n}", 1) for n in range(9, 24, 2))
    assert engine.verify("events").holds


def test_inputs_of_one_topic_have_offsets_of_their_own(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    # One broker by two names is two to Spark. Of the partitions of more than four topics it changes the order.
    others = [f"{topic}-{nth}" for nth in range(6)]
    for other in others:
        kafka.create(other)
        kafka.produce(other, [json.dumps(event(100))], keys=[other])
    schema = f'{{topics: [{topic}], schema: "id BIGINT, at TIMESTAMP"'
    parts = ", ".join(f"{other}: [0]" for other in reversed(others))
    pipeline = f"""
name: events
sources:
  a: {{kafka: {schema}, servers: "{kafka.servers}"}}}}
  b: {{kafka: {schema}, servers: "{kafka.servers.replace("127.0.0.1", "localhost")}", starting: {{{topic}: {{"0": 1, "1": 2}}}}}}}}
  c: {{kafka: {{partitions: {{{parts}}}, schema: "id BIGINT, at TIMESTAMP", servers: "{kafka.servers}"}}}}
event_time: {{column: at}}
interval: day
transform:
  sql: SELECT 'c' AS of, * FROM c UNION ALL SELECT 'b', * FROM b UNION ALL SELECT 'a', * FROM a
sink: {{delta: {{path: data/events}}}}
"""
    project(tmp_path, "{text}", text=pipeline)
    engine = Engine(tmp_path, spark=spark)
    send(kafka, topic, range(8))
    run(engine)
    send(kafka, topic, range(8, 10))
    run(engine)
    passed_over = {0, 1, 3}
    wanted = {("a", n): 1 for n in range(10)} | {("b", n): 1 for n in range(10) if n not in passed_over}
    assert Counter((row["of"], row["id"]) for row in rows(tmp_path / "data/events")) == Counter(
        wanted | {("c", 100): 6}
    )
    assert engine.verify("events").holds

    # Spark's checkpoint knows its sources by their order alone: in another, each would go on from the other's offsets.
    turned = pipeline.replace("'b', * FROM b", "'a', * FROM a", 1).replace(
        "'a', * FROM a\n", "'b', * FROM b\n"
    )
    project(tmp_path, "{text}", text=turned)
    send(kafka, topic, range(10, 12))
    with pytest.raises(StateError, match="uses its inputs in another order"):
        run(Engine(tmp_path, spark=spark))


def test_the_history_of_a_compacted_topic_is_not_read(
    kafka: Kafka, tmp_path: Path, spark: SparkSession
) -> None:
    kafka.create("compacted", cleanup_policy="compact")
    kafka.produce("compacted", [json.dumps(event(0))], keys=["k0"])
    engine = engine_of(tmp_path, spark, EVENTS, factor=1, servers=kafka.servers, topic="compacted")
    run(engine)
    assert held(tmp_path) == wanted(range(1))
    with pytest.raises(SourceError, match=r"topic compacted at .* is compacted"):
        engine.verify("events")


def test_texts_and_bytes_are_rows_by_the_brokers_time(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    kafka.produce(topic, ["one", "two", b"\xff"], keys=["a", "b", "c"])
    pipeline = """
name: events
source: {{kafka: {{servers: "{servers}", pattern: "{topic}.*", format: {kind}, with: [timestamp, key, offset]}}}}
event_time: {{column: timestamp}}
interval: day
sink: {{delta: {{path: data/{kind}}}}}
"""
    for kind in ("string", "raw"):
        engine = engine_of(tmp_path, spark, pipeline, servers=kafka.servers, topic=topic[:-2], kind=kind)
        run(engine)
    texts = {row["offset"]: (row["value"], row["key"]) for row in rows(tmp_path / "data/string")}
    assert texts == {0: ("one", "a"), 1: ("two", "b")}
    (aside,) = rows(tmp_path / "data/string_quarantine")
    assert (aside["file"], aside["record"]) == (f"{topic}/0/2", "base64:/w==")
    raw = {row["offset"]: (row["value"], row["key"]) for row in rows(tmp_path / "data/raw")}
    assert raw == {0: (b"one", b"a"), 1: (b"two", b"b"), 2: (b"\xff", b"c")}

    # What the pattern has found is made anew before the next run, and grows past what was read.
    kafka.delete(topic)
    kafka.create(topic, partitions=2)
    kafka.produce(topic, ["other"] * 5)
    with pytest.raises(SourceError, match=f"topic {topic} at .* was made anew"):
        run(engine)
    (tmp_path / "data/raw/_tidemill/topics.json").unlink()
    for asked in (run, lambda engine: engine.verify("events")):
        with pytest.raises(StateError, match=f"topic {topic} was read for input events"):
            asked(engine)


def test_records_that_are_gone_stop_what_needs_them(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    engine = engine_of(tmp_path, spark, EVENTS, factor=1, servers=kafka.servers, topic=topic)
    send(kafka, topic, range(40))
    run(engine)
    kafka.forget(topic, 1, 12)
    with pytest.raises(SourceError, match="offsets 0 to 11 are gone") as raised:
        engine.verify("events")
    assert (raised.value.params["topic"], raised.value.params["partition"]) == (topic, "1")

    # The stream goes on: it has read them. What it has not read must be there.
    send(kafka, topic, range(40, 60))
    kafka.forget(topic, 1, 25)
    with pytest.raises(SourceError, match="offsets 20 to 24 are gone"):
        run(engine)
    assert held(tmp_path) == wanted(range(40))

    kafka.delete(topic)
    with pytest.raises(SourceError, match=f"has no topic {topic}"):
        run(engine)
    kafka.create(topic, partitions=2)
    with pytest.raises(SourceError, match=f"topic {topic} at .* was made anew"):
        run(engine)
    send(kafka, topic, range(100, 160))  # past the old offsets
    with pytest.raises(SourceError, match="was made anew"):
        run(engine)
    with pytest.raises(SourceError, match="was made anew"):
        engine.verify("events")
    assert held(tmp_path) == wanted(range(40))


def test_a_broker_or_a_topic_that_is_not_there_is_named(
    kafka: Kafka, tmp_path: Path, spark: SparkSession
) -> None:
    engine = engine_of(tmp_path, spark, EVENTS, factor=1, servers=kafka.servers, topic="nowhere")
    with pytest.raises(SourceError, match=f"the broker at {kafka.servers} has no topic nowhere"):
        run(engine)
    with pytest.raises(PlanError, match="no live stream has read nowhere"):
        engine.backfill("events", Request.between("2024-05-01", "2024-05-02"))
    patience = 'options: {{kafka.default.api.timeout.ms: "1500", kafka.request.timeout.ms: "1000"}}'
    impatient = EVENTS.replace("max_offsets_per_batch: 15", patience)
    engine = engine_of(tmp_path, spark, impatient, factor=1, servers="127.0.0.1:1", topic="nowhere")
    with pytest.raises(SourceError, match=r"no answer from Kafka at 127\.0\.0\.1:1: TimeoutException"):
        run(engine)


def test_records_that_go_while_a_stream_runs_are_named(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    send(kafka, topic, range(20))
    engine = engine_of(tmp_path, spark, EVENTS, factor=1, servers=kafka.servers, topic=topic)
    pipeline = engine.project.pipeline("events")
    source = pipeline.inputs["events"].kafka
    assert source is not None

    def read() -> None:
        # What a run checks before it starts is left out here: the loss comes later.
        writer = stream(spark, source).writeStream.format("noop").trigger(availableNow=True)
        writer.option("checkpointLocation", str(tmp_path / "checkpoint")).start().awaitTermination()

    read()
    send(kafka, topic, range(20, 30))
    kafka.forget(topic, 0, 13)
    with pytest.raises(StreamingQueryException) as raised:
        read()
    error = explained(raised.value, pipeline)
    assert isinstance(error, SourceError)
    assert f"offset [10, 15) for topic partition {topic}-0" in error.message
