"""What all tests share: one Spark session for the tests marked ``spark``, none for the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Great Expectations reports its use to its makers otherwise.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
# Tests run in copies of projects, which have no jars of their own; and none is to fetch them again.
os.environ.setdefault("TIDEMILL_JARS", str(Path(__file__).resolve().parents[1] / ".jars"))


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session of this test run, as users get it, on two cores and 1 GB; started by the first who asks."""
    from tidemill.execution.session import build_session

    session = build_session(
        "tidemill-tests",
        master="local[2]",
        settings={"spark.driver.memory": "1g", "spark.sql.shuffle.partitions": "2"},
    )
    yield session
    session.stop()
