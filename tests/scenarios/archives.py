"""What scenarios of archives share: a project of two pipelines that read one topic, and what was sent to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.services.kafka import Kafka
from tidemill import Engine
from tidemill.clock import Clock
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request

START = datetime(2024, 5, 1, tzinfo=UTC)
STALE = Request(states=frozenset({State.STALE}))
DIRTY = Request(states=frozenset({State.DIRTY}))
INGEST = """
name: ingest
source:
  kafka:
    servers: {servers}
    topics: [{topic}]
    format: raw
    with: [topic, partition, offset, timestamp, key, headers]
event_time: {{column: timestamp}}
interval: day
sink: {{delta: {{path: data/raw}}}}
"""
EVENTS = """
name: events
source:
  kafka:
    servers: {servers}
    topics: [{topic}]
    schema: "id BIGINT NOT NULL, at TIMESTAMP, v BIGINT"
    with: [key, partition, offset, headers]
    archive: ingest
event_time: {{column: at}}
interval: day
gate: {{max_removed: null}}
transform: {{sql: "SELECT id, at, v * {factor} AS v, key, partition, offset, size(headers) AS h FROM events"}}
sink: {{delta: {{path: data/events}}}}
"""


class Mill:
    """A project of two pipelines that read one topic: ``ingest`` lands it, ``events`` makes rows of it."""

    def __init__(self, folder: Path, spark: SparkSession, kafka: Kafka, topic: str) -> None:
        self.folder, self._spark, self.kafka, self.topic = folder, spark, kafka, topic
        (folder / "conf/pipelines").mkdir(parents=True)
        self.write("ingest", INGEST)
        self.write("events", EVENTS)
        self.make_topic()

    def make_topic(self) -> None:
        """Make the topic; its records are older than what the broker keeps by itself."""
        self.kafka.create(self.topic, partitions=2, retention_ms="-1")

    def write(self, name: str, pipeline: str, factor: int = 1) -> None:
        values = {"servers": self.kafka.servers, "topic": self.topic, "factor": factor}
        (self.folder / f"conf/pipelines/{name}.yml").write_text(pipeline.format(**values))

    @property
    def engine(self) -> Engine:
        return Engine(self.folder, spark=self._spark)

    def at(self, clock: Clock) -> Engine:
        """The engine at another time; for verbs that do without Spark."""
        return Engine(self.folder, clock=clock)

    def send(self, numbers: Iterable[int]) -> None:
        """Each number is an event of its own hour, made then; even ones go to partition 0, odd ones to 1."""
        numbers = list(numbers)
        for part in (0, 1):
            mine = [n for n in numbers if n % 2 == part]
            keys, times = [f"k{n}" for n in mine], [int(hour(n).timestamp() * 1000) for n in mine]
            self.kafka.produce(self.topic, map(body, mine), partition=part, keys=keys, times=times)

    def forget(self, before: int) -> None:
        """Have the broker forget what is below an offset, in both partitions."""
        for part in (0, 1):
            self.kafka.forget(self.topic, part, before)

    def run(self, *names: str) -> None:
        for outcome in self.engine.run(*names, trigger=Trigger(available_now=True)):
            if outcome.error is not None:
                raise outcome.error

    def landed(self) -> Counter[tuple[Any, ...]]:
        return Counter(
            (
                r["partition"],
                r["offset"],
                r["key"].decode(),
                r["value"].decode(),
                r["timestamp"].replace(tzinfo=UTC),
            )
            for r in rows(self.folder / "data/raw")
        )

    def held(self) -> Counter[tuple[Any, ...]]:
        found = rows(self.folder / "data/events")
        return Counter((r["id"], r["v"], r["key"], r["partition"], r["offset"], r["h"]) for r in found)


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


def body(number: int) -> str:
    return json.dumps({"id": number, "at": hour(number).isoformat(), "v": number})


def wanted(numbers: Iterable[int], factor: int = 1) -> Counter[tuple[Any, ...]]:
    # Records have no headers; Spark gives none as null, and the size of null is null.
    return Counter((n, n * factor, f"k{n}", n % 2, n // 2, None) for n in numbers)


def raw(numbers: Iterable[int]) -> Counter[tuple[Any, ...]]:
    """What the archive holds of these events."""
    return Counter((n % 2, n // 2, f"k{n}", body(n), hour(n)) for n in numbers)
