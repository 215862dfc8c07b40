"""A topic for each scenario that wants one."""

from __future__ import annotations

import pytest

from tests.services.kafka import Kafka


@pytest.fixture
def topic(kafka: Kafka, request: pytest.FixtureRequest) -> str:
    """A topic of the test's own, of two partitions."""
    name = request.node.name.removeprefix("test_")
    kafka.create(name, partitions=2)
    return name
