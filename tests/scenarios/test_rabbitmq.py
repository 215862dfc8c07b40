"""RabbitMQ as a source, on a real broker: what was sent is what the table holds, or its quarantine."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.scenarios.rabbitmq_feed import (
    EVENTS,
    SMALL_SEGMENTS,
    START,
    declare,
    engine_of,
    event,
    held,
    options,
    run,
    send,
    wanted,
)
from tests.services.rabbitmq import Broker
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.sources.rabbitmq_publish import Message, publish

pytestmark = pytest.mark.spark

COUNTS = """
name: events
source: {{rabbitmq: {{url: "{url}", queue: {queue}, schema: "id BIGINT, at TIMESTAMP"}}}}
event_time: {{column: at, watermark: 1 hour}}
interval: day
transform: {{sql: "SELECT window.start AS at, count(*) AS n FROM events GROUP BY window(at, '1 hour')"}}
sink: {{delta: {{path: data/events}}}}
"""
OTHERS = """
name: events
source: {{rabbitmq: {{url: "{url}", queue: {queue}, format: {kind}, with: [timestamp, headers, routing_key, offset]}}}}
event_time: {{column: timestamp}}
interval: day
sink: {{delta: {{path: data/{kind}}}}}
"""
TWO = """
name: events
sources:
  a: {{rabbitmq: {{url: "{url}", queue: {queue}-a, schema: "id BIGINT, at TIMESTAMP"}}}}
  b: {{rabbitmq: {{url: "{url}", queue: {queue}-b, schema: "id BIGINT, at TIMESTAMP", starting: next}}}}
event_time: {{column: at}}
interval: day
transform: {{sql: "SELECT 'b' AS side, * FROM b UNION ALL SELECT 'a' AS side, * FROM a"}}
sink: {{delta: {{path: data/events}}}}
"""


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """The name of a queue of the test's own."""
    return str(request.node.name).removeprefix("test_")


def test_what_was_sent_is_what_the_table_holds(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue, SMALL_SEGMENTS)
    engine = engine_of(tmp_path, spark, rabbit, queue)
    send(rabbit, queue, range(60))
    assert run(engine).batches >= 4  # one that says where it begins, and 25 records at most in each
    assert held(tmp_path) == wanted(range(60))

    # A restart goes on from exactly there.
    send(rabbit, queue, range(60, 70))
    run(engine)
    assert held(tmp_path) == wanted(range(70))
    assert engine.status("events")[0].unread == "events read up to offset 70"

    # Other code: every interval is stale; records that the stream has not read yet are no part of the history.
    send(rabbit, queue, range(70, 76))
    engine = engine_of(tmp_path, spark, rabbit, queue, factor=10)
    engine.backfill("events", Request(states=frozenset({State.STALE})))
    assert held(tmp_path) == wanted(range(70), factor=10)
    run(engine)
    assert held(tmp_path) == wanted(range(76), factor=10)
    assert engine.verify("events").holds


def test_late_records_make_intervals_dirty_and_a_backfill_takes_them_in(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue)
    hour = timedelta(hours=1)
    send(rabbit, queue, range(5), every=hour)
    engine = engine_of(tmp_path, spark, rabbit, queue, COUNTS.replace("schema:", "starting: 2, schema:"))
    for numbers in (range(5, 72), range(30, 33)):  # the last are late by a day and more
        send(rabbit, queue, numbers, every=hour)
        run(engine)
    assert engine.coverage("events").in_state(State.DIRTY) == ("2024-05-02",)
    send(rabbit, queue, range(34, 36), every=hour)  # beyond what the stream has read

    engine.backfill("events", Request(states=frozenset({State.DIRTY})))

    read = Counter(n for numbers in (range(2, 72), range(30, 33)) for n in numbers)
    oracle = {START + hour * n: count for n, count in read.items()}
    clean = engine.coverage("events").in_state(State.CLEAN)
    assert clean == ("2024-05-01", "2024-05-02")
    found = {row["at"].replace(tzinfo=UTC): row["n"] for row in rows(tmp_path / "data/events")}
    assert {at: n for at, n in found.items() if f"{at:%F}" in clean} == {
        at: n for at, n in oracle.items() if f"{at:%F}" in clean
    }


def test_what_is_no_record_is_set_aside_with_its_place(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue)
    bad = [b'{"id": 1, "at": "2024-05', b'{"id": 3}', b'{"at": "2024-05-01"}', b'{"id": 5\xff', b""]
    bad += [json.dumps(event(6)).encode() + b"\n" + json.dumps(event(7)).encode()]
    bodies = [json.dumps(event(0)).encode(), *bad, json.dumps(event(8)).encode() + b"\n"]
    publish(options(rabbit, queue), [Message(body) for body in bodies])
    engine = engine_of(tmp_path, spark, rabbit, queue)

    run(engine)

    assert sorted(row["id"] for row in rows(tmp_path / "data/events")) == [0, 8]
    aside = {
        row["file"]: (row["reasons"], row["record"]) for row in rows(tmp_path / "data/events_quarantine")
    }
    assert aside == {
        f"{queue}/1": (["not a record of the schema"], bad[0].decode()),
        f"{queue}/2": (["no event time (at)"], '{"id":3}'),
        f"{queue}/3": (["no value for id, which is NOT NULL"], '{"at":"2024-05-01T00:00:00.000Z"}'),
        f"{queue}/4": (["not a record of the schema"], "base64:eyJpZCI6IDX/"),
        f"{queue}/5": (["not a record of the schema"], ""),
        f"{queue}/6": (["not a record of the schema"], bad[5].decode()),
    }

    # Once the schema asks for less, what fits it goes in; it is read again from the queue.
    engine = engine_of(tmp_path, spark, rabbit, queue, EVENTS.replace(" NOT NULL", ""))
    released = engine.release(engine.releasable("events"))
    assert (released.released, released.held) == (1, 5)
    assert [row["id"] for row in rows(tmp_path / "data/events")].count(None) == 1
    assert engine.verify("events").holds


def test_texts_and_bytes_are_rows_by_the_publishers_time(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue)
    at = int(START.timestamp())
    sent = [Message(body, headers={"b": 1, "a": "x"}, timestamp=at) for body in (b"one", b"\xff")]
    publish(options(rabbit, queue), [*sent, Message(b"of no time")])
    for kind in ("string", "raw"):
        run(engine_of(tmp_path, spark, rabbit, queue, OTHERS, kind=kind))

    (text,) = rows(tmp_path / "data/string")
    assert (text["value"], text["offset"], text["routing_key"]) == ("one", 0, queue)
    assert text["headers"] == [{"key": "a", "value": "x"}, {"key": "b", "value": "1"}]
    assert text["timestamp"] == START
    aside = {row["file"]: row["record"] for row in rows(tmp_path / "data/string_quarantine")}
    assert aside.keys() == {f"{queue}/1", f"{queue}/2"}
    assert aside[f"{queue}/1"] == "base64:/w=="
    assert {row["offset"]: row["value"] for row in rows(tmp_path / "data/raw")} == {0: b"one", 1: b"\xff"}


def test_two_queues_of_one_pipeline_have_a_position_each(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    for name, numbers in (("a", range(7)), ("b", range(3))):
        declare(rabbit, f"{queue}-{name}")
        send(rabbit, f"{queue}-{name}", numbers)
    engine = engine_of(tmp_path, spark, rabbit, queue, TWO)
    run(engine)
    send(rabbit, f"{queue}-b", range(3, 5))
    run(engine)
    unread = engine.status("events")[0].unread
    assert unread == "a read up to offset 7, b read up to offset 5"
    send(rabbit, f"{queue}-a", range(7, 9))  # beyond what the stream has read
    read = Counter((row["side"], row["id"]) for row in rows(tmp_path / "data/events"))
    assert read == Counter([*(("a", n) for n in range(7)), ("b", 3), ("b", 4)])
    assert engine.verify("events").holds
