"""A topic beside a table, on a real broker: what the stream appends is sent at least once, each row under one id."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.services.kafka import Kafka
from tidemill import Engine
from tidemill.errors import ConfigError, SourceError
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening

pytestmark = pytest.mark.spark

START = datetime(2024, 5, 1, tzinfo=UTC)
PIPELINE = """
name: orders
source: {{files: {{path: in, format: json, schema: "id BIGINT, at TIMESTAMP, what STRING", max_files_per_batch: 1}}}}
event_time: {{column: at}}
interval: day
transform: {{sql: "SELECT id, at, what, id * {factor} AS n FROM events"}}
gate: {{max_removed: null}}
sink:
  delta: {{path: data/orders}}
  kafka: {{servers: "{servers}", topic: {topic}, key: [{key}]}}
"""


class Crash(Exception):
    """The process ends here, as far as the protocol can tell."""


def moment(number: int) -> str:
    return (START + timedelta(hours=number)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def add(folder: Path, name: int, numbers: range, what: str | None = None) -> None:
    (folder / "in").mkdir(exist_ok=True)
    lines = [json.dumps({"id": n, "at": moment(n), "what": what}) for n in numbers]
    (folder / "in" / f"{name}.json").write_text("\n".join(lines))


def engine_of(folder: Path, spark: SparkSession, kafka: Kafka, topic: str, **parts: Any) -> Engine:
    (folder / "conf/pipelines").mkdir(parents=True, exist_ok=True)
    text = PIPELINE.format(**{"servers": kafka.servers, "topic": topic, "factor": 2, "key": "id"} | parts)
    (folder / "conf/pipelines/orders.yml").write_text(text)
    return Engine(folder, spark=spark)


def run(engine: Engine) -> Any:
    (outcome,) = engine.run("orders", trigger=Trigger(available_now=True))
    if outcome.error is not None:
        raise outcome.error
    return outcome


def received(spark: SparkSession, kafka: Kafka, topic: str) -> dict[str, list[tuple[str | None, Any]]]:
    """Key and value of each record in the topic, by its id."""
    reader = spark.read.format("kafka").option("kafka.bootstrap.servers", kafka.servers)
    found = defaultdict(list)
    for row in reader.option("subscribe", topic).option("includeHeaders", "true").load().collect():
        ((name, number),) = row.headers
        assert name == "tidemill-id"
        key = row.key.decode() if row.key is not None else None
        found[number.decode()].append((key, json.loads(row.value)))
    return found


def once(found: dict[str, list[tuple[str | None, Any]]]) -> dict[int, tuple[str | None, Any]]:
    """The records, as a consumer has them that takes each id once; by the row's own number, which stands once."""
    for each in found.values():
        assert all(other == each[0] for other in each), "one id, two rows"
    kept = {each[0][1]["id"]: each[0] for each in found.values()}
    assert len(kept) == len(found), "one row, two ids"
    return kept


def wanted(numbers: range, what: str | None = None) -> dict[int, tuple[str, Any]]:
    return {n: (str(n), {"id": n, "at": moment(n), "what": what, "n": n * 2}) for n in numbers}


def test_what_the_stream_appends_is_sent_and_what_a_backfill_changes_is_not(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    add(tmp_path, 1, range(30))
    engine = engine_of(tmp_path, spark, kafka, topic)
    run(engine)
    add(tmp_path, 2, range(30, 40))
    run(engine)
    found = received(spark, kafka, topic)
    assert all(len(each) == 1 for each in found.values())  # nothing crashed: each once
    assert once(found) == wanted(range(40))

    engine = engine_of(tmp_path, spark, kafka, topic, factor=3)
    engine.backfill("orders", Request(states=frozenset({State.STALE})))
    assert {row["n"] for row in rows(tmp_path / "data/orders")} == {n * 3 for n in range(40)}
    run(engine)
    assert received(spark, kafka, topic) == found

    with pytest.raises(ConfigError, match="the rows have no column 'whose'"):
        run(engine_of(tmp_path, spark, kafka, topic, key="whose"))


def test_after_a_crash_between_any_two_steps_nothing_lacks_and_what_comes_twice_has_one_id(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    engine = engine_of(tmp_path, spark, kafka, topic)
    points = (Point.FILES_STAGED, Point.COMMITTED, Point.BATCH_PUBLISHED, Point.ROWS_SENT)
    for nth, point in enumerate(points):
        add(tmp_path, nth, range(10 * nth, 10 * nth + 10))

        def crash(at: Point, point: Point = point) -> None:
            if at is point:
                raise Crash

        with listening(crash):
            (outcome,) = engine.run("orders", trigger=Trigger(available_now=True))
        assert outcome.error is not None
        before = sum(map(len, received(spark, kafka, topic).values()))
        run(engine)
        sent = sum(map(len, received(spark, kafka, topic).values())) - before
        # Sent before the crash and not noted: once more.
        assert sent == 10, point
        assert once(received(spark, kafka, topic)) == wanted(range(10 * nth + 10))
    assert len(rows(tmp_path / "data/orders")) == 40
    # What is noted as sent may be lost back to an older copy.
    note = tmp_path / "data/orders/_tidemill/sent.json"
    noted = json.loads(note.read_text())
    assert noted[topic]["version"] >= 4
    note.write_text(json.dumps({topic: {"version": 0, "digest": None}}))
    run(engine)
    assert once(received(spark, kafka, topic)) == wanted(range(40))
    assert sum(map(len, received(spark, kafka, topic).values())) == 40 + 10 + 40


def test_a_row_that_is_too_great_is_noted_and_the_others_are_sent(
    kafka: Kafka, tmp_path: Path, spark: SparkSession
) -> None:
    kafka.create("small", max_message_bytes="3000")
    said: list[str] = []
    add(tmp_path, 1, range(3), what="x" * 100)
    add(tmp_path, 2, range(3, 4), what="y" * 3000)
    # The greatest that is sent for certain leaves room for what a record needs besides.
    add(tmp_path, 3, range(4, 5), what="z" * 2700)
    engine = Engine(engine_of(tmp_path, spark, kafka, "small").project, spark=spark, say=said.append)
    run(engine)
    assert once(received(spark, kafka, "small")) == (
        wanted(range(3), "x" * 100) | wanted(range(4, 5), "z" * 2700)
    )
    assert len(rows(tmp_path / "data/orders")) == 5
    (unsent,) = rows(tmp_path / "data/orders_unsent")
    assert (unsent["topic"], unsent["key"], unsent["most_bytes"]) == ("small", "3", 3000)
    assert json.loads(unsent["value"]) == wanted(range(3, 4), "y" * 3000)[3][1]
    assert any("1 row too great for the topic" in line for line in said)

    # A greater message than a client sends by itself, and than it has room for, to a topic that takes it.
    kafka.create("large", max_message_bytes="40000000")
    (tmp_path / "2").mkdir()
    add(tmp_path / "2", 1, range(1))
    run(engine_of(tmp_path / "2", spark, kafka, "large", factor="2 AS m, repeat('w', 34000000)"))
    ((_, large),) = once(received(spark, kafka, "large")).values()
    assert large["n"].strip("w") == ""
    assert len(large["n"]) == 34_000_000


def test_a_topic_that_is_not_there_is_named_before_anything_is_read(
    kafka: Kafka, tmp_path: Path, spark: SparkSession
) -> None:
    add(tmp_path, 1, range(1))
    with pytest.raises(SourceError, match=f"the broker at {kafka.servers} has no topic nowhere"):
        run(engine_of(tmp_path, spark, kafka, "nowhere"))
    assert rows(tmp_path / "data/orders") == []
