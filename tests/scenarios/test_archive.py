"""History from an archive, on a real broker: what both hold together is what was sent, once each, or a loud stop."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.services.kafka import Kafka
from tidemill import Engine
from tidemill.errors import SourceError
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning.plan import explain
from tidemill.planning.selection import Request

pytestmark = pytest.mark.spark

START = datetime(2024, 5, 1, tzinfo=UTC)
STALE = Request(states=frozenset({State.STALE}))
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

    def write(self, name: str, pipeline: str, factor: int = 1) -> None:
        values = {"servers": self.kafka.servers, "topic": self.topic, "factor": factor}
        (self.folder / f"conf/pipelines/{name}.yml").write_text(pipeline.format(**values))

    @property
    def engine(self) -> Engine:
        return Engine(self.folder, spark=self._spark)

    def send(self, numbers: Iterable[int]) -> None:
        """Each number is an event of its own hour; even ones go to partition 0, odd ones to 1."""
        numbers = list(numbers)
        for part in (0, 1):
            mine = [n for n in numbers if n % 2 == part]
            self.kafka.produce(self.topic, map(body, mine), partition=part, keys=[f"k{n}" for n in mine])

    def run(self, *names: str) -> None:
        for outcome in self.engine.run(*names, trigger=Trigger(available_now=True)):
            if outcome.error is not None:
                raise outcome.error

    def held(self) -> Counter[tuple[Any, ...]]:
        found = rows(self.folder / "data/events")
        return Counter((r["id"], r["v"], r["key"], r["partition"], r["offset"], r["h"]) for r in found)


def body(number: int) -> str:
    return json.dumps({"id": number, "at": (START + timedelta(hours=number)).isoformat(), "v": number})


def wanted(numbers: Iterable[int], factor: int = 1) -> Counter[tuple[Any, ...]]:
    # Records have no headers; Spark gives none as null, and the size of null is null.
    return Counter((n, n * factor, f"k{n}", n % 2, n // 2, None) for n in numbers)


@pytest.fixture
def mill(tmp_path: Path, spark: SparkSession, kafka: Kafka, topic: str) -> Mill:
    return Mill(tmp_path, spark, kafka, topic)


def test_history_is_what_archive_and_broker_hold_together(mill: Mill) -> None:
    mill.send(range(40))
    mill.run("events", "ingest")
    mill.send(range(40, 60))
    mill.run("events")
    mill.send(range(60, 66))  # beyond what the stream has read
    for part in (0, 1):
        mill.kafka.forget(mill.topic, part, 12)  # the archive ends at 20, and the stream's history at 30

    mill.write("events", EVENTS, factor=10)
    plan = mill.engine.plan("events", STALE)
    text = f"up to {mill.topic}/0 20, {mill.topic}/1 20 from ingest at version"
    assert any(text in line for line in explain(plan))
    mill.engine.backfill("events", STALE)
    assert mill.held() == wanted(range(60), 10)
    assert mill.engine.verify("events").holds

    # What neither holds stops it before anything is changed.
    mill.kafka.forget(mill.topic, 1, 24)
    mill.write("events", EVENTS, factor=100)
    with pytest.raises(
        SourceError, match=r"offsets 20 to 23 are gone; the archive ingest.* has offsets 0 to 19"
    ):
        mill.engine.backfill("events", STALE)
    assert mill.held() == wanted(range(60), 10)
