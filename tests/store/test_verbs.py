"""Every verb on a table whose files, log, checkpoint, ledger and runs are on a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.services.s3 import Store
from tests.store.lake import PER_FILE, Lake
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]
STALE = Request(states=frozenset({State.STALE}))
ALL_DAYS = ("2024-03-01", "2024-03-02")


def test_a_pipeline_lives_on_a_store(tmp_path: Path, store: Store, bucket: str, spark: SparkSession) -> None:
    lake = Lake(tmp_path, store, bucket, spark)
    lake.arrive(3, bad=1)
    (outcome,) = lake.engine.run("readings")
    assert (outcome.error, outcome.batches) == (None, 3)
    lake.check()
    status = lake.engine.status("readings")[0]
    assert status.unread == "0 file(s) of events"
    assert lake.engine.quarantined("readings").rows == 3

    lake.arrive(1, bad=1)
    (outcome,) = lake.engine.run("readings")
    assert (outcome.error, outcome.batches) == (None, 1)
    lake.check()

    lake.use(10)
    assert lake.engine.coverage("readings").in_state(State.STALE) == ALL_DAYS
    plan = lake.engine.plan("readings", STALE)
    assert len(plan.chunks) == 2
    done = lake.engine.backfill("readings", STALE)
    assert [chunk.outcome for chunk in done.chunks] == ["swapped"] * 2
    lake.check()
    assert lake.engine.verify("readings").holds
    assert len(lake.engine.diff(done.run).rows) == 2

    assert set(lake.engine.undo(done.run)) == set(ALL_DAYS)
    lake.check(factors={1})
    published = lake.engine.publish(done.run)
    assert [chunk.outcome for chunk in published.chunks] == ["swapped"] * 2
    lake.check()

    kept = lake.engine.maintain("readings")
    assert kept.vacuumed == 0
    lake.check()
    assert lake.engine.verify("readings").holds
    # Nothing of the table is on this machine.
    assert sorted(path.name for path in (tmp_path / "data").rglob("*")) == ["in"]
    assert len(lake.events) == PER_FILE * 4
