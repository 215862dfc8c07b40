"""A backfill beside a live stream that appends to the very same days, in two processes.

The live process runs the code it started with; the code then changes on disk, and backfills swap the days
again and again with the new code, while rows keep arriving for them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows, table_version
from tidemill import Engine
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Process

pytestmark = pytest.mark.spark

_PIPELINE = """
name: readings
source:
  files: {path: data/in, format: json, schema: "id BIGINT, at TIMESTAMP, v BIGINT", max_files_per_batch: 1}
event_time: {column: at}
interval: day
transform: sensor_code:readings
gate: {max_removed: null}
sink: {delta: {path: data/readings}}
"""
_CODE = "def readings(events):\n    return events.selectExpr('id', 'at', 'v * {factor} AS v')\n"
DAYS = 3
FILES = 36
PER_FILE = 30


def _write(project: Path, factor: int) -> None:
    (project / "sensor_code.py").write_text(_CODE.format(factor=factor))


def _arrive(project: Path, number: int) -> None:
    """One file with events for every day."""
    ids = range(number * PER_FILE, (number + 1) * PER_FILE)
    lines = [json.dumps({"id": i, "at": f"2024-03-0{1 + i % DAYS}T{i % 24:02}:00:00Z", "v": i}) for i in ids]
    path = project / "data/in" / f".{number:04}"
    path.write_text("\n".join(lines))
    os.utime(path, (1.7e9 + number, 1.7e9 + number))
    path.rename(path.with_name(f"{number:04}.json"))


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_and_the_stream_never_waits(tmp_path: Path, spark: SparkSession) -> None:
    project, table = tmp_path, tmp_path / "data/readings"
    (project / "conf/pipelines").mkdir(parents=True)
    (project / "conf/pipelines/readings.yml").write_text(_PIPELINE)
    (project / "data/in").mkdir(parents=True)
    _write(project, 1)
    _arrive(project, 0)
    live = Process(project, "stream", "readings")
    live.wait_until(lambda: table_version(table) >= 1, "the first batch")

    _write(project, 10)
    engine = Engine(project, spark=spark)
    swaps = beside = 0
    for number in range(1, FILES):
        _arrive(project, number)
        if number % 6 == 0:
            before = engine.view("readings").coverage.live_version
            done = engine.backfill("readings", Request(states=frozenset({State.STALE})))
            swaps += sum(chunk.outcome == "swapped" for chunk in done.chunks)
            assert all(chunk.retries < 5 for chunk in done.chunks)
            beside += engine.view("readings").coverage.live_version > before
            seen = Counter(row["id"] for row in rows(table))
            assert set(seen.values()) == {1}
    live.wait_until(lambda: engine.status("readings")[0].unread == "0 files of events", "the last file")
    live.stop()

    assert swaps >= 3
    assert beside >= 1, "no live batch was published while a backfill was at work"
    ids = Counter(row["id"] for row in rows(table))
    assert ids == Counter(range(FILES * PER_FILE))
    engine.backfill("readings", Request(states=frozenset({State.STALE})))
    assert {row["id"]: row["v"] for row in rows(table)} == {i: i * 10 for i in range(FILES * PER_FILE)}
    assert set(engine.coverage("readings").in_state(State.CLEAN)) == {
        "2024-03-01",
        "2024-03-02",
        "2024-03-03",
    }
