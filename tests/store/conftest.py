"""What tests on an object store share: one store, and a bucket for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.services.s3 import Store, running_store


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    with running_store() as found:
        yield found


@pytest.fixture
def bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that this process reaches by its environment. Hadoop keeps what it was told of one: each test has its own."""
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    return store.make_bucket(f"tide-{secrets.token_hex(6)}")
