"""One Kafka broker for all scenarios that want one, and a topic for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tests.services.kafka import Kafka, broker


@pytest.fixture(scope="session")
def kafka(spark: SparkSession) -> Iterator[Kafka]:
    """The Kafka broker of these tests."""
    with broker(spark) as found:
        yield found


@pytest.fixture
def topic(kafka: Kafka, request: pytest.FixtureRequest) -> str:
    """A topic of the test's own, of two partitions."""
    name = request.node.name.removeprefix("test_")
    kafka.create(name, partitions=2)
    return name
