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
from tidemill.testing.processes import short_lived_environment

pytestmark = pytest.mark.spark

DAYS = 31 if FULL else 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_ends_with_what_duckdb_computes_and_a_second_one_does_no_harm(tmp_path: Path):
    project = flights_project(tmp_path)
    said = run_demo(project, "jobs.demo", DAYS)
    assert "is dirty again" in said
    assert said.count(" clean days, 0 differ") >= 2
    same_rows(project / "data/tables/departures", oracle_flights.departures(DAYS))
    same_rows(project / "data/tables/delays", oracle_flights.delays(DAYS))
    assert Engine(project).coverage("delays").in_state(State.DIRTY) == ()
    again = run_demo(project, "jobs.demo", DAYS)
    assert "already there" in again
    assert "nothing was repaired this time" in again
    same_rows(project / "data/tables/departures", oracle_flights.departures(DAYS))
    same_rows(project / "data/tables/delays", oracle_flights.delays(DAYS))


def run_demo(project: Path, module: str, days: int) -> str:
    """Run a demo in a copy of the project; what it said."""
    paths = [str(project), str(REPOSITORY / "lib"), os.environ.get("PYTHONPATH", "")]
    jars = os.environ.get("TIDEMILL_JARS", str(REPOSITORY / ".jars"))
    done = subprocess.run(
        [sys.executable, "-m", module, "--days", str(days)],
        check=False,
        cwd=project,
        env={
            **os.environ,
            # Java as the tests' own session has it, unless the run is a long one.
            **({} if FULL else short_lived_environment()),
            "PYTHONPATH": os.pathsep.join(paths),
            "TIDEMILL_JARS": jars,
            "COLUMNS": "200",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def same_rows(path: Path, expected: pa.Table) -> None:
    """Assert that a table holds exactly the expected rows, in their columns."""
    table = DeltaTable(str(path)).to_pyarrow_table()
    found = table.select(expected.column_names).cast(expected.schema)
    order = [(column, "ascending") for column in expected.column_names]
    assert found.num_rows == expected.num_rows
    assert found.sort_by(order).equals(expected.sort_by(order))
