"""A compaction gives rows other files and says nothing of them: the ledger stands where the table stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.test_bad_input import Feed, lines
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request

pytestmark = pytest.mark.spark


def test_a_compacted_interval_can_be_backfilled(tmp_path: Path, spark: SparkSession) -> None:
    feed = Feed(tmp_path, spark)
    for number in range(9):
        feed.put(lines(number))
    assert feed.run() is None
    assert feed.engine.maintain("feed").compacted == ("2024-05-01",)
    feed.use(lambda events: events.withColumn("v", events.v + 1))
    done = feed.engine.backfill("feed", Request(states=frozenset({State.STALE})))
    assert [(chunk.outcome, chunk.retries) for chunk in done.chunks] == [("swapped", 0)]
    assert feed.ids() == list(range(9))
    assert feed.engine.coverage("feed").in_state(State.CLEAN) == ("2024-05-01",)
