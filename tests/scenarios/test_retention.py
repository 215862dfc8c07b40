"""What an archive keeps by age and size: whole intervals go, nothing else does, and who needs them is told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.archives import EVENTS, INGEST, STALE, Mill, hour, raw, wanted
from tests.scenarios.processes import rows
from tests.services.kafka import Kafka
from tidemill.clock import ManualClock
from tidemill.errors import SourceError
from tidemill.ledger.judge import State
from tidemill.planning.plan import explain
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening

pytestmark = pytest.mark.spark

KEEP = INGEST.replace("path: data/raw", "path: data/raw, retain: {{age: 3 days}}")
BOUND = EVENTS.replace("archive: ingest", "archive: {{pipeline: ingest, within: 6 hours}}")


@pytest.fixture
def mill(tmp_path: Path, spark: SparkSession, kafka: Kafka, request: pytest.FixtureRequest) -> Mill:
    found = Mill(tmp_path, spark, kafka, request.node.name.removeprefix("test_"))
    found.write("ingest", KEEP)
    found.write("events", BOUND)
    return found


def on(day: int, hour: int = 0) -> ManualClock:
    return ManualClock(datetime(2024, 5, day, hour, tzinfo=UTC))


def test_the_oldest_intervals_go_and_what_is_left_is_still_history(mill: Mill) -> None:
    mill.send(range(96))  # the first to the fourth of May
    far = '{"id": 1000, "at": "2024-05-03T00:00:00Z", "v": 1}'
    mill.kafka.produce(mill.topic, [far], keys=["far"], times=[int(hour(10).timestamp() * 1000)])
    mill.run("events", "ingest")
    mill.forget(48)
    mill.kafka.forget(mill.topic, 0, 49)
    assert mill.held() == wanted(range(96))  # the one whose time is 38 hours from the broker's is set aside

    (aside,) = rows(mill.folder / "data/events_quarantine")
    assert aside["reasons"] == ["event time too far from the broker's (at)"]

    would = mill.at(on(5)).maintain("ingest", dry_run=True)
    assert (would.expired, would.expired_rows) == (("2024-05-01",), 25)
    assert mill.landed().total() == 97
    assert mill.at(on(5)).maintain("ingest").expired == would.expired
    assert mill.landed() == raw(range(24, 96))
    assert mill.at(on(5)).maintain("ingest").expired == ()
    assert {row.interval for row in mill.engine.coverage("ingest").rows} == {
        f"2024-05-0{n}" for n in (2, 3, 4)
    }
    kept = mill.engine.status("ingest")[0].kept
    assert kept == "2024-05-02T00:00 and later; 25 rows from before have gone (retain)"
    assert len(mill.engine.coverage("events").in_state(State.CLEAN)) == 4

    # Of the third of May all that can be is kept; of the second, six hours may be gone.
    mill.write("events", BOUND, factor=5)
    said = "keeps 2024-05-02T00:00 and later: intervals whose input begins before 2024-05-02T06:00 need"
    assert any(said in line for line in explain(mill.engine.plan("events", STALE)))
    mill.engine.backfill("events", Request.between("2024-05-03", "2024-05-05"))
    fresh = wanted(range(48)) + wanted(range(48, 96), 5)
    assert mill.held() == fresh
    gone = r"offsets 0 to 48 are gone; the archive ingest.* and nothing from before 2024-05-02T00:00"
    with pytest.raises(SourceError, match=gone) as raised:
        mill.engine.backfill("events", Request.between("2024-05-02", "2024-05-03"))
    assert "begins at 2024-05-02T06:00 or later" in raised.value.next_step
    # Nothing bound the times: then any record may be of any interval.
    mill.write("events", EVENTS, factor=6)
    with pytest.raises(SourceError, match="are gone; the archive ingest"):
        mill.engine.backfill("events", Request.between("2024-05-04", "2024-05-05"))
    assert mill.held() == fresh


def test_rows_that_come_while_intervals_go_are_kept(mill: Mill) -> None:
    mill.send(range(96))
    mill.run("ingest")
    came: list[Point] = []

    def listen(point: Point) -> None:
        if point is Point.COMMIT_CHECKED and not came:
            came.append(point)
            mill.send(range(96, 110))
            # One that was made on the first of May, and comes now.
            mill.kafka.produce(mill.topic, ["late"], keys=["late"], times=[int(hour(3).timestamp() * 1000)])
            mill.run("ingest")

    mill.write("ingest", KEEP.replace("age: 3 days", "size: 1 B"))
    with listening(listen):
        done = mill.at(on(5, 5)).maintain("ingest")
    assert done.expired == ("2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04")
    left = mill.landed()
    assert left.total() == 15
    assert left - raw(range(96, 110)) == {(0, 55, "late", "late", hour(3)): 1}

    (late,) = mill.engine.coverage("ingest").in_state(State.EXPIRED)
    assert late == "2024-05-01"
    plan = mill.engine.plan("ingest", Request.between("2024-05-01", "2024-05-05"))
    assert (plan.intervals, [each.interval.label for each in plan.left_out]) == ((), ["2024-05-01"])
