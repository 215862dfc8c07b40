"""Every verb on a table whose files, log, checkpoint, ledger and runs are on a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.services.faults import Asked, Fault, proxy
from tests.services.s3 import SECRET, Store
from tests.store.lake import Lake
from tidemill.errors import LeaseHeld, PlanError, StateError, StoreError
from tidemill.execution import upkeep
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Point, Process

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]
STALE = Request(states=frozenset({State.STALE}))
ALL_DAYS = ("2024-03-01", "2024-03-02")


def test_a_pipeline_lives_on_a_store(
    tmp_path: Path, store: Store, bucket: str, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path, store, bucket, spark)
    lake.arrive(2, bad=1)
    (outcome,) = lake.engine.run("readings")
    assert (outcome.error, outcome.batches) == (None, 2)
    lake.check()
    assert lake.engine.status("readings")[0].unread == "0 files of events"
    assert lake.engine.quarantined("readings").rows == 2

    # The next start goes on from the checkpoint, past a file that cannot be read.
    lake.arrive(1, bad=1)
    lake.put("9999 (ü).json.gz", b"\x1f\x8b no gzip")
    (outcome,) = lake.engine.run("readings")
    assert outcome.error is None
    lake.bad += 1
    lake.check()
    assert lake.engine.run("readings")[0].error is None
    assert any("cannot be read" in each.reason for each in lake.engine.quarantined("readings").reasons)

    monkeypatch.setattr(upkeep, "_SMALL_FILES", 2)
    assert lake.engine.maintain("readings").compacted == ALL_DAYS
    lake.check()

    lake.use(10)
    assert lake.engine.coverage("readings").in_state(State.STALE) == ALL_DAYS
    assert len(lake.engine.plan("readings", STALE).chunks) == 2
    done = lake.engine.backfill("readings", STALE)
    assert [chunk.outcome for chunk in done.chunks] == ["swapped"] * 2
    lake.check()
    assert len(lake.engine.diff(done.run).rows) == 2
    assert lake.engine.verify("readings").holds

    assert set(lake.engine.undo(done.run)) == set(ALL_DAYS)
    lake.check(factors={1})
    published = lake.engine.publish(done.run)
    assert [chunk.outcome for chunk in published.chunks] == ["swapped"] * 2
    lake.check()
    # The keys are with the clients alone, and nothing of the table is on this machine.
    assert SECRET not in str(spark.sparkContext.getConf().getAll())
    assert not [name for name in lake.objects() if SECRET.encode() in lake.body(name)]
    assert sorted(path.name for path in (tmp_path / "data").rglob("*")) == ["in"]


@pytest.mark.nightly
def test_states_are_kept_on_a_store_read_back_drawn_together_and_gone_on_from(
    tmp_path: Path, store: Store, bucket: str, spark: SparkSession
) -> None:
    lake = Lake(tmp_path, store, bucket, spark)

    def totals(day: str) -> dict[str, int]:
        return {each.key["sensor"]: each.state["total"] for each in lake.engine.state_at("totals", day).keys}

    lake.move(("a", "2024-03-01T03:00:00Z", 1), ("b", "2024-03-01T04:00:00Z", 2))
    lake.move(("a", "2024-03-02T03:00:00Z", 3))
    lake.move(("a", "2024-03-04T03:00:00Z", 4))
    assert lake.engine.run("totals")[0].error is None
    assert totals("2024-03-02") == {"a": 1, "b": 2}
    assert lake.engine.maintain("totals").states.drawn == "2024-03-02"
    assert any("tables/totals_states/base-" in name for name in lake.objects())
    assert totals("2024-03-03") == {"a": 4, "b": 2}
    lake.move(("a", "2024-03-05T03:00:00Z", 5))
    lake.move(("a", "2024-03-03T05:00:00Z", 6), ("a", "2024-03-05T04:00:00Z", 7))
    assert lake.engine.run("totals")[0].error is None
    dirty = Request(states=frozenset({State.DIRTY}))
    done = lake.engine.backfill("totals", dirty)
    assert done.chunks[0].outcome == "swapped"
    assert lake.engine.coverage("totals").in_state(State.DIRTY) == ()
    assert totals("2024-03-05") == {"a": 14, "b": 2}
    with pytest.raises(PlanError, match="its state is on a store"):
        lake.engine.restart("totals")


def test_after_a_kill_an_unaided_start_goes_on(
    tmp_path: Path, store: Store, bucket: str, spark: SparkSession
) -> None:
    lake = Lake(tmp_path, store, bucket, spark)
    lake.arrive(2, bad=1)
    process = Process(tmp_path, "run", "readings", crash=Point.COMMITTED)
    try:
        assert process.wait_killed()
    finally:
        process.kill()
    (outcome,) = lake.engine.run("readings")
    assert outcome.error is None, outcome.error
    lake.check()


@pytest.mark.nightly
def test_a_driver_that_lost_its_lease_publishes_nothing(
    tmp_path: Path, store: Store, bucket: str, spark: SparkSession
) -> None:
    lake = Lake(tmp_path, store, bucket, spark)
    lake.arrive(1)
    sleeper = Process(tmp_path, "run", "readings", hold=[Point.FILES_STAGED])
    try:
        assert sleeper.held() is Point.FILES_STAGED
        (outcome,) = lake.engine.run("readings", take_over=True)
        assert outcome.error is None, outcome.error
        version = lake.table().version()
        sleeper.release()
        assert sleeper.wait() == LeaseHeld.exit_code
        assert "was lost" in sleeper.said
    finally:
        sleeper.kill()
    assert lake.table().version() == version
    lake.check()


_COPIES = """
name: copies
source: {{delta: {{path: "s3://{bucket}/tables/readings"}}}}
event_time: {{column: at}}
interval: day
transform: {{sql: "SELECT id, at, v FROM events"}}
sink: {{delta: {{path: "s3a://{bucket}/tables/copies/"}}}}
trigger: {{available_now: true}}
"""


@pytest.mark.nightly
def test_a_pipeline_reads_the_table_of_another(
    tmp_path: Path, store: Store, bucket: str, spark: SparkSession
) -> None:
    lake = Lake(tmp_path, store, bucket, spark)
    (tmp_path / "conf/pipelines/copies.yml").write_text(_COPIES.format(bucket=bucket))
    lake.arrive(1)
    lake.use(1).run("readings")
    (outcome,) = lake.engine.run("copies")
    assert outcome.error is None, outcome.error
    assert lake.engine.status("copies")[0].unread == "0 versions of events"

    lake.use(10).backfill("readings", STALE)
    lake.check()
    assert lake.engine.coverage("copies").in_state(State.DIRTY) == ALL_DAYS
    lake.engine.backfill("copies", Request(states=frozenset({State.DIRTY})))
    wanted = {event["id"]: event["v"] * 10 for event in lake.events}
    assert {row["id"]: row["v"] for row in lake.rows("copies")} == wanted
    assert len(lake.rows("copies")) == len(wanted)


def test_a_table_that_needs_sparks_writer_is_refused(
    tmp_path: Path, store: Store, bucket: str, spark: SparkSession
) -> None:
    lake = Lake(tmp_path, store, bucket, spark)
    lake.arrive(1)
    lake.engine.run("readings")
    lake.table().alter.add_constraint({"small": "v < 100"})
    lake.arrive(1)

    (outcome,) = lake.engine.run("readings")
    assert isinstance(outcome.error, StateError)
    assert "the CHECK constraint small, which needs Spark's Delta writer" in outcome.error.message


def test_a_store_that_fails_is_no_fault_of_the_file_that_is_read(
    tmp_path: Path, store: Store, bucket: str, spark: SparkSession
) -> None:
    with proxy(store.endpoint, patience=1) as between:
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf/stores.yml").write_text(
            f"{bucket}: {{endpoint: '{between.endpoint}', timeout: 2s}}\n"
        )
        lake = Lake(tmp_path, store, bucket, spark)
        lake.arrive(1)
        with between.doing(_busy_where_events_are_read) as done:
            (outcome,) = lake.engine.run("readings")
        assert done
        assert isinstance(outcome.error, StoreError), outcome.error
        (outcome,) = lake.engine.run("readings")
        assert outcome.error is None, outcome.error
        lake.check()
        assert lake.engine.quarantined("readings").rows == 0


def _busy_where_events_are_read(asked: Asked) -> Fault | None:
    return Fault.BUSY if asked.by_hadoop and asked.method == "GET" and "/my%20in/" in asked.path else None
