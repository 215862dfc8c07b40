"""The brokers of all scenarios that want one, each started by the first who asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tests.services import kafka as of_kafka
from tests.services import rabbitmq as of_rabbitmq


@pytest.fixture(scope="session")
def rabbit() -> Iterator[of_rabbitmq.Broker]:
    """The RabbitMQ of these tests."""
    with of_rabbitmq.running_broker() as running:
        yield running


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """The name of a queue of the test's own."""
    return str(request.node.name).removeprefix("test_")


@pytest.fixture(scope="session")
def kafka(spark: SparkSession) -> Iterator[of_kafka.Kafka]:
    """The Kafka broker of these tests."""
    with of_kafka.broker(spark) as found:
        yield found


@pytest.fixture
def topic(kafka: of_kafka.Kafka, request: pytest.FixtureRequest) -> str:
    """A topic of the test's own, of two partitions."""
    name = request.node.name.removeprefix("test_")
    kafka.create(name, partitions=2)
    return name
