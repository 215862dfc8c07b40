"""What scenarios share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.rabbitmq import Broker, running_broker


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Broker]:
    """The RabbitMQ of these tests, started by the first who asks."""
    with running_broker() as running:
        yield running


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """The name of a queue of the test's own."""
    return str(request.node.name).removeprefix("test_")
