"""Two processes write one table on a store: a live stream, and backfills of the very days that it appends to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.services.s3 import Store
from tests.store.lake import Lake
from tidemill.errors import LeaseHeld
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Process

pytestmark = [pytest.mark.spark, pytest.mark.timeout(400)]
STALE = Request(states=frozenset({State.STALE}))
FILES = 5


def test_nothing_is_lost_between_a_stream_and_backfills(
    tmp_path: Path, store: Store, bucket: str, spark: SparkSession
) -> None:
    lake = Lake(tmp_path, store, bucket, spark)
    lake.arrive(1)
    live = Process(tmp_path, "stream", "readings", every_ms=0)
    try:
        live.wait_until(lambda: lake.engine.view("readings").coverage.version >= 1, "the first batch")
        lake.use(10)  # the stream goes on with the code that it began with
        with pytest.raises(LeaseHeld, match="held by process"):
            lake.engine.run("readings")
        swaps = beside = 0
        for number in range(1, FILES):
            lake.arrive(1)
            if number % 3 == 0:
                before = lake.engine.view("readings").coverage.live_version
                done = lake.engine.backfill("readings", STALE)
                swaps += sum(chunk.outcome == "swapped" for chunk in done.chunks)
                beside += lake.engine.view("readings").coverage.live_version > before
                assert set(Counter(row["id"] for row in lake.rows()).values()) == {1}
        live.wait_until(
            lambda: lake.engine.status("readings")[0].unread == "0 files of events", "the last file"
        )
        live.stop()
    finally:
        live.kill()
    assert swaps >= 1
    assert beside >= 1, "no live batch was published while a backfill was at work"
    lake.check(factors={1, 10})
    assert lake.engine.status("readings")[0].running is None
    lake.engine.backfill("readings", STALE)
    lake.check()
    assert lake.engine.verify("readings").holds
