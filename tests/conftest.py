"""What all tests share: one Spark session for the tests marked ``spark``, none for the others; one broker a kind."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.services.kafka import Kafka
    from tests.services.rabbitmq import Broker

# Great Expectations reports its use to its makers otherwise.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
# Tests run in copies of projects, which have no jars of their own; and none is to fetch them again.
os.environ.setdefault("TIDEMILL_JARS", str(Path(__file__).resolve().parents[1] / ".jars"))
if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker has no main file; pyspark.sql.connect, which Great Expectations loads, then exits as if for doctests.
    sys.modules["__main__"].__file__ = __file__
    # And it is told how wide its parent's terminal is.
    os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session of this test run, as users get it, on two cores and 1.5 GB; started by the first who asks."""
    from tidemill.execution.session import build_session
    from tidemill.testing.processes import short_lived

    settings = short_lived({"spark.driver.memory": "1536m", "spark.sql.shuffle.partitions": "2"})
    session = build_session("tidemill-tests", master="local[2]", settings=settings)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Broker]:
    """The RabbitMQ of this test run, started by the first who asks. Who stops it starts it again."""
    from tests.services.rabbitmq import running_broker

    with running_broker() as running:
        yield running


@pytest.fixture(scope="session")
def kafka(spark: SparkSession) -> Iterator[Kafka]:
    """The Kafka broker of this test run, started by the first who asks. Who stops it starts it again."""
    from tests.services.kafka import broker

    with broker(spark) as found:
        yield found
