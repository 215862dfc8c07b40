"""Row 2: a backfill dies at each of its points; every interval is the old one or the new one, and `resume` finishes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.fire.mill import Mill, oracle
from tests.profile import FULL
from tidemill.testing import Point, Process, rows_of
from tidemill.testing.law import expected

pytestmark = [pytest.mark.row(2), pytest.mark.timeout(3600)]
POINTS = (
    Point.NOT_YET_IN_PLACE,
    Point.PLAN_SAVED,
    Point.CHUNK_STAGED,
    Point.MANIFEST_SAVED,
    Point.GATE_PASSED,
    Point.QUARANTINE_SETTLED,
    Point.COMMIT_CHECKED,
    Point.COMMIT_WRITTEN,
    Point.COMMITTED,
    Point.CHUNK_SWAPPED,
)
ROUNDS = 3 if FULL else 1


def old_or_new(mill: Mill, old: int, new: int) -> None:
    """Each interval holds what the old code gives, or what the new code gives: nothing in between."""
    pipeline = mill.engine.project.pipeline("readings")
    held = rows_of(pipeline)
    before, after = (
        expected(pipeline, oracle("readings", mill.source.events, factor)) for factor in (old, new)
    )
    assert held.keys() == before.keys()
    for label, rows in held.items():
        assert rows in (before[label], after[label]), f"{label} is a mixture"


def kill_backfill(mill: Mill, point: Point, *, resumed: bool) -> None:
    """New code, a backfill that dies at ``point``, and one that carries it on; sometimes that dies there too."""
    old, new = mill.factor, mill.factor + 1
    mill.use(new)
    died = mill.process("backfill", "readings", select={"states": ["stale"]}, crash=point)
    assert mill.killed(died), f"the backfill never came to {point}"
    mill.check()
    mill.check_quarantine()
    old_or_new(mill, old, new)
    run = _run(mill)
    if run is None:
        # It died before it had a plan: there is nothing to carry on.
        _finish(mill, mill.process("backfill", "readings", select={"states": ["stale"]}))
    else:
        if resumed:
            mill.killed(mill.process("resume", run, crash=point))
            mill.check()
            old_or_new(mill, old, new)
        _finish(mill, mill.process("resume", run))
    mill.check(whole=True)


def _finish(mill: Mill, process: Process) -> None:
    began = time.monotonic()
    process.finish()
    mill.tally.recovered(time.monotonic() - began)
    mill.check()


def _run(mill: Mill) -> str | None:
    """The run of today's code that died, if it had got as far as a plan."""
    mine = mill.engine.project.fingerprint("readings")
    plans = (mill.folder / "data/readings/_tidemill/runs").glob("*/plan.json")
    return next((p.parent.name for p in plans if json.loads(p.read_text())["fingerprint"] == mine), None)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_every_interval_is_the_old_one_or_the_new_one(mill: Callable[..., Mill], round_: int) -> None:
    world = mill(names=("readings",))
    world.arrive(8, poison=1)
    world.run()
    for number, point in enumerate(world.chance.sample(POINTS, len(POINTS) if FULL else 4)):
        kill_backfill(world, point, resumed=number % 3 == 2)
    world.settle()
