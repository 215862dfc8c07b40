"""``make demo-kafka`` as a person runs it; its tables against DuckDB over the package's CSV."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import oracle_flights
from tests.scenarios.processes import REPOSITORY, flights_project
from tests.scenarios.test_demo import run_demo, same_rows

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.nightly]

DAYS = 3


@pytest.mark.timeout(900)
def test_the_demo_through_kafka_ends_with_what_duckdb_computes(tmp_path: Path):
    project = flights_project(tmp_path)
    shutil.copytree(REPOSITORY / "tests/services", project / "tests/services")

    said = run_demo(project, "jobs.demo_kafka", DAYS)

    assert "departures: 4 clean days, 0 differ" in said
    same_rows(project / "data/kafka/departures", oracle_flights.departures(DAYS))
    same_rows(project / "data/kafka/delays", oracle_flights.delays(DAYS))
