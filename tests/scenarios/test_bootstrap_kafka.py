"""A bootstrap on an old topic: what was sent is what the table holds, whatever was sent or killed meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.services.kafka import Kafka
from tidemill import Engine
from tidemill.errors import PlanError, StateError
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request
from tidemill.protocol import Point
from tidemill.testing.processes import Process

pytestmark = pytest.mark.spark

START = datetime(2024, 5, 1, tzinfo=UTC)
EVENTS = """
name: events
source:
  kafka:
    servers: {servers}
    topics: [{topic}]
    schema: "id BIGINT NOT NULL, at TIMESTAMP"
    max_offsets_per_batch: 7
event_time: {{column: at}}
interval: day
sink: {{delta: {{path: data/events}}}}
"""
COUNTS = """
name: events
source:
  kafka: {{servers: "{servers}", topics: [{topic}], schema: "id BIGINT, at TIMESTAMP", max_offsets_per_batch: 7}}
event_time: {{column: at, watermark: 1 hour}}
interval: day
transform: {{sql: "SELECT window.start AS at, count(*) AS n FROM events GROUP BY window(at, '1 hour')"}}
sink: {{delta: {{path: data/events}}}}
"""


def send(kafka: Kafka, topic: str, numbers: Iterable[int]) -> None:
    """Event ``n`` happens ``n`` hours after the start, ten minutes past."""
    for part in (0, 1):
        lines = [
            json.dumps({"id": n, "at": (START + timedelta(hours=n, minutes=10)).isoformat()})
            for n in numbers
            if n % 2 == part
        ]
        kafka.produce(topic, lines, partition=part)


def engine_of(folder: Path, spark: SparkSession, pipeline: str, kafka: Kafka, topic: str) -> Engine:
    (folder / "conf/pipelines").mkdir(parents=True, exist_ok=True)
    text = pipeline.format(servers=kafka.servers, topic=topic)
    (folder / "conf/pipelines/events.yml").write_text(text)
    return Engine(folder, spark=spark)


def run(engine: Engine) -> int:
    (outcome,) = engine.run("events", trigger=Trigger(available_now=True))
    if outcome.error is not None:
        raise outcome.error
    return outcome.batches


def held(folder: Path) -> Counter[int]:
    return Counter(row["id"] for row in rows(folder / "data/events"))


def counts(folder: Path) -> dict[datetime, list[int]]:
    found: dict[datetime, list[int]] = {}
    for row in rows(folder / "data/events"):
        found.setdefault(row["at"].replace(tzinfo=UTC), []).append(row["n"])
    return found


def counted(numbers: Iterable[int], below: int) -> dict[datetime, list[int]]:
    """The windows of events, those of the hours before ``below``."""
    found = Counter(n for n in numbers if n < below)
    return {START + timedelta(hours=n): [count] for n, count in found.items()}


def test_the_stream_goes_on_from_where_history_ends(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    engine = engine_of(tmp_path, spark, EVENTS, kafka, topic)
    send(kafka, topic, range(60))
    kafka.produce(topic, ["no record"])

    foreseen = engine.foresee_bootstrap("events", newest_first=True, chunk=2)
    days = ["2024-05-03", "2024-05-02", "2024-05-01"]
    assert [[str(i) for i in chunk] for chunk in foreseen.chunks] == [days[:2], days[2:]]
    assert (foreseen.rows, foreseen.bad) == (61, 1)
    assert foreseen.ends == {"events": f"{topic} up to {topic}/0 31, {topic}/1 30"}
    assert not (tmp_path / "data").exists()

    # Killed when the log has the first batch and Spark's has not: no stream begins before it is whole.
    asked = {"chunk": 2, "newest_first": True}
    assert Process(tmp_path, "bootstrap", "events", crash=Point.COMMITTED, **asked).wait_killed()
    with pytest.raises(StateError, match="a bootstrap was interrupted before it had seen all"):
        run(engine)
    # Killed between two chunks; more arrives meanwhile, in intervals of history too.
    assert Process(tmp_path, "bootstrap", "events", crash=Point.CHUNK_SWAPPED, **asked).wait_killed()
    assert held(tmp_path) == Counter(range(24, 60))
    assert engine.coverage("events").in_state(State.MISSING) == ("2024-05-01",)
    send(kafka, topic, [*range(60, 80), 3, 5])

    done = engine.bootstrap("events").done
    assert done is not None
    assert [chunk.outcome for chunk in done.chunks] == ["swapped"]
    assert held(tmp_path) == Counter(range(60))
    assert engine.bootstrap("events").done is None

    # Between its end and the live start more arrives.
    send(kafka, topic, [*range(80, 90), 30])
    assert run(engine) > 2  # seven offsets at most in each
    assert held(tmp_path) == Counter(range(90)) + Counter([3, 5, 30])
    assert engine.coverage("events").in_state(State.CLEAN) == (*sorted(days), "2024-05-04")
    # All of history up to the stream's end is read again.
    assert engine.verify("events").holds
    again = engine.backfill("events", Request.between("2024-05-01", "2024-05-02"))
    assert [chunk.outcome for chunk in again.chunks] == ["equal"]
    (aside,) = rows(tmp_path / "data/events_quarantine")
    assert aside["record"] == "no record"


def test_history_of_one_chunk_is_the_streams_first_batch(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    engine = engine_of(tmp_path, spark, EVENTS, kafka, topic)
    send(kafka, topic, range(60))
    assert engine.foresee_bootstrap("events").in_one_batch
    assert Process(tmp_path, "bootstrap", "events", crash=Point.FILES_STAGED).wait_killed()
    send(kafka, topic, [*range(60, 70), 3])
    with pytest.raises(StateError, match="a bootstrap was interrupted"):
        run(engine)
    assert engine.bootstrap("events").done is None
    assert held(tmp_path) == Counter([*range(70), 3])
    send(kafka, topic, range(70, 90))
    assert run(engine) > 2
    assert held(tmp_path) == Counter([*range(90), 3])
    assert engine.verify("events").holds


@pytest.mark.nightly
@pytest.mark.parametrize("nth", range(1, 5))
@pytest.mark.parametrize("point", [Point.OFFSETS_WRITTEN, Point.NOT_YET_IN_PLACE, Point.COMMITTED])
def test_windows_survive_a_kill_anywhere(
    kafka: Kafka, tmp_path: Path, spark: SparkSession, point: Point, nth: int
) -> None:
    topic = f"killed-{point}-{nth}"
    kafka.create(topic, partitions=2)
    engine = engine_of(tmp_path, spark, COUNTS, kafka, topic)
    send(kafka, topic, range(60))
    # Where it never comes so often to that point, it ends.
    Process(tmp_path, "bootstrap", "events", crash=point, crash_nth=nth).wait_killed()
    send(kafka, topic, [*range(60, 62), 5])
    engine.bootstrap("events")
    send(kafka, topic, range(62, 80))
    run(engine)
    engine.backfill("events", Request(states=frozenset({State.DIRTY})))
    assert engine.coverage("events").in_state(State.CLEAN) == ("2024-05-01", "2024-05-02", "2024-05-03")
    clean = {at: each for at, each in counts(tmp_path).items() if at < START + timedelta(days=3)}
    assert clean == counted([*range(80), 5], below=72)


def test_windows_that_are_open_at_the_pin_are_the_streams(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    engine = engine_of(tmp_path, spark, COUNTS, kafka, topic)
    first = [*range(60), *range(10, 20), 50, 51]
    send(kafka, topic, first)
    # Killed when the log has the first batch: the next closes windows.
    assert Process(tmp_path, "bootstrap", "events", crash=Point.COMMITTED).wait_killed()
    assert engine.bootstrap("events").done is not None
    send(kafka, topic, range(60, 62))
    assert engine.bootstrap("events").done is None
    # Two days are history; of the third, the stream made the windows that its watermark, 58:10, has closed.
    assert engine.coverage("events").in_state(State.CLEAN) == ("2024-05-01", "2024-05-02")
    assert engine.coverage("events").in_state(State.OPEN) == ("2024-05-03",)
    assert counts(tmp_path) == counted(first, below=58)

    # Late rows of history: the stream drops them, and says so; early ones close the third day.
    late = [5, 30, 31]
    send(kafka, topic, [*late, *range(62, 80)])
    run(engine)
    assert engine.coverage("events").in_state(State.DIRTY) == ("2024-05-01", "2024-05-02")
    engine.backfill("events", Request(states=frozenset({State.DIRTY})))
    every = [*first, *range(60, 80), *late]
    assert engine.coverage("events").in_state(State.CLEAN) == ("2024-05-01", "2024-05-02", "2024-05-03")
    clean = {at: each for at, each in counts(tmp_path).items() if at < START + timedelta(days=3)}
    assert clean == counted(every, below=72)
    assert engine.verify("events").holds


def test_what_cannot_be_bootstrapped_is_said(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    latest = EVENTS.replace("max_offsets_per_batch: 7", "starting: latest")
    with pytest.raises(PlanError, match=r"events starts at the end of .*, so there is no history"):
        engine_of(tmp_path, spark, latest, kafka, topic).bootstrap("events")
    engine = engine_of(tmp_path, spark, EVENTS, kafka, topic)
    run(engine)
    with pytest.raises(PlanError, match="its stream has begun already"):
        engine.bootstrap("events")
    with pytest.raises(PlanError, match="its stream has begun already"):
        engine.foresee_bootstrap("events")
