"""``make demo`` as a person runs it, twice; its tables against DuckDB over the package's CSV."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests import oracle_flights
from tests.profile import FULL
from tests.scenarios.processes import REPOSITORY, flights_project
from tidemill import Engine
from tidemill.ledger.judge import State

pytestmark = pytest.mark.spark

DAYS = 31 if FULL else 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_ends_with_what_duckdb_computes_and_a_second_one_does_no_harm(tmp_path: Path):
    project = flights_project(tmp_path)
    said = _demo(project)
    assert "is dirty again" in said
    assert said.count(" clean days, 0 differ") >= 2
    _same(project, "departures", oracle_flights.departures(DAYS))
    _same(project, "delays", oracle_flights.delays(DAYS))
    assert Engine(project).coverage("delays").in_state(State.DIRTY) == ()
    again = _demo(project)
    assert "already there" in again
    assert "nothing was repaired this time" in again
    _same(project, "departures", oracle_flights.departures(DAYS))
    _same(project, "delays", oracle_flights.delays(DAYS))


def _demo(project: Path) -> str:
    paths = [str(project), str(REPOSITORY / "lib"), os.environ.get("PYTHONPATH", "")]
    jars = os.environ.get("TIDEMILL_JARS", str(REPOSITORY / ".jars"))
    done = subprocess.run(
        [sys.executable, "-m", "jobs.demo", "--days", str(DAYS)],
        check=False,
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TIDEMILL_JARS": jars, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def _same(project: Path, name: str, expected: pa.Table) -> None:
    table = DeltaTable(str(project / "data/tables" / name)).to_pyarrow_table()
    found = table.select(expected.column_names).cast(expected.schema)
    order = [(column, "ascending") for column in expected.column_names]
    assert found.num_rows == expected.num_rows
    assert found.sort_by(order).equals(expected.sort_by(order))
