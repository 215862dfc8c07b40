"""Above the Spark line nothing loads Spark: a command that reads a ledger answers in well under a second."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABOVE_THE_LINE = (
    "tidemill",
    "tidemill.model",
    "tidemill.config",
    "tidemill.ledger",
    "tidemill.eventsourcing",
    "tidemill.planning",
    "tidemill.display.status",
)
HEAVY = ("pyspark", "deltalake", "great_expectations", "pandas", "altair", "duckdb")


@pytest.mark.parametrize("name", ABOVE_THE_LINE)
def test_loads_no_heavy_package(name: str):
    # A process of its own: this one may have loaded anything for other tests.
    program = f"import sys, {name}; print(*(heavy for heavy in {HEAVY!r} if heavy in sys.modules))"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stderr
