"""A driver that starts runs by cron for weeks: what a run held must go when it ends."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.test_bad_input import Feed, lines
from tidemill.execution.live import LiveRun

pytestmark = pytest.mark.spark
_RUNS = 6


def test_a_run_that_has_ended_is_forgotten(tmp_path: Path, spark: SparkSession) -> None:
    feed = Feed(tmp_path, spark)
    before = _alive(spark, at_most=0)
    for number in range(_RUNS):
        feed.put(lines(number))
        assert feed.run() is None
    # The two collectors take turns to find out: Python's lets go of the query, the JVM's of what it called.
    assert _alive(spark, at_most=before) <= before


def _alive(spark: SparkSession, at_most: int) -> int:
    alive = 0
    for _ in range(100):
        gc.collect()
        spark._jvm.System.gc()
        spark._jvm.System.runFinalization()
        alive = sum(isinstance(each, LiveRun) for each in gc.get_objects())
        if alive <= at_most:
            break
        threading.Event().wait(0.05)
    return alive
