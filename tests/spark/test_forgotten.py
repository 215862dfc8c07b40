"""A driver that starts runs by cron for weeks: what a run held must go when it ends."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.test_bad_input import Feed, lines
from tidemill.execution.live import LiveRun

pytestmark = pytest.mark.spark
_RUNS = 6
_LOOKS = 100


def test_a_run_that_has_ended_is_forgotten(tmp_path: Path, spark: SparkSession) -> None:
    feed = Feed(tmp_path, spark)
    others = weakref.WeakSet(_runs())
    for number in range(_RUNS):
        feed.put(lines(number))
        assert feed.run() is None
    # The two collectors take turns to find out: Python's lets go of the query, the JVM's of what it called.
    for _ in range(_LOOKS):
        spark._jvm.System.gc()
        spark._jvm.System.runFinalization()
        mine = len([run for run in _runs() if run not in others])
        if not mine:
            break
        threading.Event().wait(0.05)
    assert mine == 0


def _runs() -> list[LiveRun]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, LiveRun)]
