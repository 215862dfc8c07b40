"""kill -9 of live drivers and of backfills, at random moments; the tables must not show it.

The oracle is DuckDB over the package's CSV. A kill takes the whole process group, JVM and Python workers.
"""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.flights_events import write_events
from tests import oracle_flights
from tests.profile import FULL
from tests.scenarios.processes import flights_project, table_version
from tidemill import Engine
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Process

pytestmark = pytest.mark.spark

DAYS = 3 if FULL else 2
LIVE_KILLS, BACKFILL_KILLS = (12, 8) if FULL else (4, 2)
_NAMES = ("departures", "delays")


@pytest.mark.timeout(900)
def test_kills_leave_the_tables_as_one_quiet_run_would(tmp_path: Path, spark: SparkSession) -> None:
    seed = int(os.environ.get("TIDEMILL_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"TIDEMILL_SEED={seed}")  # noqa: T201  # pytest shows it when the test fails
    chance = random.Random(seed)
    project = flights_project(tmp_path)
    write_events(project / "data/flights", days=DAYS)
    engine = Engine(project, spark=spark)

    assert _kill_live(project, chance) == LIVE_KILLS
    _finish_live(project)
    assert _kill_backfills(project, engine, chance) == BACKFILL_KILLS

    for name in _NAMES:
        engine.backfill(name, Request(states=frozenset({State.DIRTY, State.STALE})))
        engine.backfill(name, Request(include_open=True))
        assert set(engine.coverage(name).in_state(State.DIRTY, State.STALE)) == set()
    _same(project / "data/tables/departures", oracle_flights.departures(DAYS))
    _same(project / "data/tables/delays", oracle_flights.delays(DAYS))


def _kill_live(project: Path, chance: random.Random) -> int:
    """Start the live driver again and again, and kill it some moments after it has published something."""
    tables = [project / "data/tables" / name for name in _NAMES]
    kills = 0
    while kills < LIVE_KILLS:
        before = [table_version(table) for table in tables]
        live = Process(project, "run", *_NAMES)
        moved = live.wait_for(
            lambda before=before: [table_version(table) for table in tables] != before,  # type: ignore[misc]
            "a commit",
        )
        threading.Event().wait(chance.uniform(0, 0.8))
        if not live.running:
            # Everything was read: the later kills meet a driver that has nothing left to do.
            assert moved
            return kills
        live.kill()
        kills += 1
    return kills


def _finish_live(project: Path) -> None:
    Process(project, "run", *_NAMES).finish()


def _kill_backfills(project: Path, engine: Engine, chance: random.Random) -> int:
    runs = project / "data/tables/delays/_tidemill/runs"
    kills = 0
    while kills < BACKFILL_KILLS:
        before = set(runs.glob("*/plan.json"))
        backfill = Process(project, "backfill", "delays", select={"states": ["dirty", "stale"]})
        backfill.wait_until(
            lambda before=before: set(runs.glob("*/plan.json")) != before,  # type: ignore[misc]
            "a plan",
        )
        threading.Event().wait(chance.uniform(0, 4))
        if backfill.running:
            backfill.kill()
            kills += 1
        _make_work(engine)
    return kills


def _make_work(engine: Engine) -> None:
    """Where the killed run had already swapped, take that back: the next one finds dirty days again."""
    if not engine.coverage("delays").in_state(State.DIRTY):
        done = {row.run for row in engine.coverage("delays").rows if row.run}
        for run in done:
            engine.undo(run)


def _same(table: Path, expected: pa.Table) -> None:
    found = DeltaTable(str(table)).to_pyarrow_table().select(expected.column_names).cast(expected.schema)
    order = [(name, "ascending") for name in expected.column_names]
    assert found.num_rows == expected.num_rows
    assert found.sort_by(order).equals(expected.sort_by(order))
