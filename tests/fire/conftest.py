"""What fire tests share: a seed that is printed, a tally that is reported, a mill that is torn down."""

from __future__ import annotations

import json
import os
import random
import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.fire.matrix import Tally
from tests.fire.mill import Mill


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.spark)


@pytest.fixture
def seed() -> int:
    """The seed of this test; TIDEMILL_SEED replays one."""
    seed = int(os.environ.get("TIDEMILL_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"TIDEMILL_SEED={seed}")  # noqa: T201  # pytest shows it when the test fails
    return seed


_passed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report


@pytest.fixture
def tally(request: pytest.FixtureRequest, seed: int) -> Iterator[Tally]:
    """What the test has seen of its row, written to TIDEMILL_FIRE_OUT when that is set and the test has passed."""
    marker = request.node.get_closest_marker("row")
    tally = Tally(marker.args[0])
    yield tally
    if "TIDEMILL_FIRE_OUT" in os.environ and request.node.stash.get(_passed, False):
        folder = Path(os.environ["TIDEMILL_FIRE_OUT"])
        body = {**tally.as_json(), "test": request.node.name, "seed": seed}
        (folder / f"{secrets.token_hex(6)}.json").write_text(json.dumps(body))


@pytest.fixture
def mill(tmp_path: Path, spark: SparkSession, seed: int, tally: Tally) -> Iterator[Callable[..., Mill]]:
    """Makes mills in folders of their own."""
    made: list[Mill] = []

    def make(**options: Any) -> Mill:
        made.append(Mill(tmp_path / f"mill{len(made)}", spark, seed + len(made), tally, **options))
        return made[-1]

    yield make
    for each in made:
        each.end()
