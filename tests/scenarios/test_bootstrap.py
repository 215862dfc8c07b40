"""A bootstrap on a folder, on a table and on a queue: history by backfill, and the stream from exactly there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios import rabbitmq_feed
from tests.scenarios.processes import rows
from tests.services.rabbitmq import Broker
from tidemill import Engine
from tidemill.errors import ConfigError, PlanError, StateError
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request
from tidemill.protocol import Point
from tidemill.testing.processes import Process

pytestmark = pytest.mark.spark

START = datetime(2024, 5, 1, tzinfo=UTC)
DAYS = ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"]
EVENTS = """
name: events
source: {files: {path: in, format: json, schema: "id BIGINT, at TIMESTAMP", max_files_per_batch: 1}}
event_time: {column: at}
interval: day
sink: {delta: {path: data/events}}
"""
COUNTS = """
name: counts
source: {%s}
event_time: {column: at, watermark: 1 hour}
interval: {grain: day, column: hour}
transform: {sql: "SELECT window.start AS hour, count(*) AS n FROM events GROUP BY window(at, '1 hour')"}
sink: {delta: {path: data/counts}}
"""
FILES = 'files: {path: in, format: json, schema: "id BIGINT, at TIMESTAMP", max_files_per_batch: 1}'


def engine_of(folder: Path, spark: SparkSession, *pipelines: str) -> Engine:
    (folder / "conf/pipelines").mkdir(parents=True)
    (folder / "in").mkdir()
    for number, text in enumerate(pipelines):
        (folder / f"conf/pipelines/{number}.yml").write_text(text)
    return Engine(folder, spark=spark)


def arrive(folder: Path, *files: Iterable[int]) -> None:
    """Files of events; ``n`` happens ``n`` hours after the start, ten minutes past."""
    for numbers in files:
        there = len(list((folder / "in").iterdir()))
        lines = [
            json.dumps({"id": n, "at": (START + timedelta(hours=n, minutes=10)).isoformat()}) for n in numbers
        ]
        hidden = folder / f".{there}.json"
        hidden.write_text("\n".join(lines) + "\n")
        hidden.rename(folder / "in" / f"{there:04d}.json")


def run(engine: Engine, name: str) -> int:
    (outcome,) = engine.run(name, trigger=Trigger(available_now=True))
    if outcome.error is not None:
        raise outcome.error
    return outcome.batches


def held(folder: Path) -> Counter[int]:
    return Counter(row["id"] for row in rows(folder / "data/events"))


def counts(folder: Path, below: int) -> Counter[int]:
    """How many events each hour before ``below`` has; an hour that stands twice fails."""
    found = [
        (round((row["hour"].replace(tzinfo=UTC) - START) / timedelta(hours=1)), row["n"])
        for row in rows(folder / "data/counts")
    ]
    assert len(found) == len(dict(found))
    return Counter({hour: n for hour, n in found if hour < below})


def test_windows_of_files_beside_a_stream_that_has_begun(tmp_path: Path, spark: SparkSession) -> None:
    engine = engine_of(tmp_path, spark, COUNTS % FILES)
    first = [range(40), [*range(40, 80), 3], [12, 13, 50]]
    arrive(tmp_path, *first)
    foreseen = engine.foresee_bootstrap("counts", newest_first=True, chunk=1)
    assert [str(day) for (day,) in foreseen.chunks] == DAYS[2::-1]
    assert (foreseen.rows, foreseen.streamed) == (84, "2024-05-04T00:00:00+00:00")

    crashed = Process(tmp_path, "bootstrap", "counts", crash=Point.CHUNK_SWAPPED, chunk=1, newest_first=True)
    assert crashed.wait_killed()
    assert engine.coverage("counts").in_state(State.MISSING) == tuple(DAYS[:2])
    assert engine.coverage("counts").in_state(State.OPEN) == (DAYS[3],)
    # The stream goes on beside it. Hours 1 and 55 are late: in an interval that is owed, and in one that was computed.
    arrive(tmp_path, range(80, 90), [1, 55], range(90, 100))
    assert run(engine, "counts") >= 3
    assert engine.coverage("counts").in_state(State.DIRTY) == (DAYS[2],)
    assert engine.coverage("counts").in_state(State.MISSING) == tuple(DAYS[:2])

    done = engine.bootstrap("counts", newest_first=True, chunk=1).done
    assert done is not None
    assert [chunk.outcome for chunk in done.chunks] == ["swapped", "swapped"]
    engine.backfill("counts", Request(states=frozenset({State.DIRTY})))
    every = Counter(n for file in first for n in file) + Counter([*range(80, 100), 1, 55])
    assert engine.coverage("counts").in_state(State.CLEAN) == tuple(DAYS)
    assert counts(tmp_path, below=96) == Counter({n: each for n, each in every.items() if n < 96})
    assert engine.verify("counts").holds


def test_tables_are_bootstrapped_one_on_the_other(tmp_path: Path, spark: SparkSession) -> None:
    engine = engine_of(tmp_path, spark, EVENTS, COUNTS % "delta: {path: data/events, max_files_per_batch: 1}")
    arrive(tmp_path, range(60), range(60, 80))
    for name in ("events", "counts"):
        assert engine.bootstrap(name, chunk=31).done is not None
    assert held(tmp_path) == Counter(range(80))
    # The watermark is 78:10.
    assert counts(tmp_path, below=96) == Counter(range(78))

    arrive(tmp_path, [7, *range(80, 98)])
    for name in ("events", "counts"):
        run(engine, name)
    assert held(tmp_path) == Counter([*range(98), 7])
    assert engine.coverage("counts").in_state(State.DIRTY) == (DAYS[0],)
    engine.backfill("counts", Request(states=frozenset({State.DIRTY})))
    assert counts(tmp_path, below=96) == Counter([*range(96), 7])
    for name in ("events", "counts"):
        assert engine.verify(name).holds


def test_what_cannot_be_bootstrapped_is_said(tmp_path: Path, spark: SparkSession) -> None:
    engine = engine_of(tmp_path, spark, EVENTS)
    with pytest.raises(ConfigError, match="no pipeline 'nowhere'"):
        engine.bootstrap("nowhere")
    # An empty source is no error, and leaves nothing behind: a stream may begin, and a bootstrap may follow.
    assert engine.bootstrap("events").ends == {}
    assert run(engine, "events") == 0
    arrive(tmp_path, range(30))
    engine.bootstrap("events")
    assert held(tmp_path) == Counter(range(30))

    alone = engine_of(tmp_path / "alone", spark, EVENTS)
    arrive(tmp_path / "alone", range(30))
    alone.backfill("events", Request.between("2024-05-01", "2024-05-02"))
    with pytest.raises(StateError, match="filled by backfills alone"):
        alone.bootstrap("events")

    streamed = engine_of(tmp_path / "streamed", spark, EVENTS)
    arrive(tmp_path / "streamed", range(30))
    run(streamed, "events")
    with pytest.raises(PlanError, match="its stream has begun already"):
        streamed.bootstrap("events")


def test_a_queue_is_bootstrapped(rabbit: Broker, tmp_path: Path, spark: SparkSession) -> None:
    queue = "bootstrapped"
    rabbitmq_feed.declare(rabbit, queue, rabbitmq_feed.SMALL_SEGMENTS)
    engine = rabbitmq_feed.engine_of(tmp_path, spark, rabbit, queue)
    rabbitmq_feed.send(rabbit, queue, range(60))
    assert engine.bootstrap("events").done is not None
    assert rabbitmq_feed.held(tmp_path) == rabbitmq_feed.wanted(range(60))
    rabbitmq_feed.send(rabbit, queue, range(60, 90))
    assert rabbitmq_feed.run(engine).batches >= 2
    assert rabbitmq_feed.held(tmp_path) == rabbitmq_feed.wanted(range(90))
    assert engine.verify("events").holds
