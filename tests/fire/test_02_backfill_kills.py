"""Row 2: a backfill dies at each of its points; every interval is the old one or the new one, and `resume` finishes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.fire.mill import ENDLESS, UNWANTED, Mill, oracle
from tests.profile import FULL
from tidemill.ledger.judge import State
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
OF_STATES = (Point.STATES_KEPT, Point.STATES_FORGOTTEN)
ROUNDS = 3 if FULL else 1


def old_or_new(mill: Mill, old: int, new: int) -> None:
    """Each interval holds what the old code gives, or what the new code gives: nothing in between."""
    name = mill.names[0]
    pipeline = mill.engine.project.pipeline(name)
    held = rows_of(pipeline)
    before, after = (expected(pipeline, oracle(name, mill.source.events, factor)) for factor in (old, new))
    # Rows that wait for the watermark are in no interval yet.
    waiting = set(mill.engine.coverage(name).in_state(State.OPEN))
    assert held.keys() - waiting == before.keys() - waiting
    for label, rows in held.items():
        assert rows in (before[label], after[label]), f"{label} is a mixture"


def kill_backfill(mill: Mill, point: Point, *, resumed: bool) -> None:
    """New code, a backfill that dies at ``point``, and one that carries it on; sometimes that dies there too."""
    old, new = mill.factor, mill.factor + 1
    mill.use(new)
    name = mill.names[0]
    died = mill.process("backfill", name, select={"states": ["stale"]}, crash=point)
    assert mill.killed(died), f"the backfill never came to {point}"
    mill.check()
    mill.check_quarantine()
    old_or_new(mill, old, new)
    run = _run(mill)
    if run is None:
        # It died before it had a plan: there is nothing to carry on.
        _finish(mill, mill.process("backfill", name, select={"states": ["stale"]}))
    else:
        if resumed:
            mill.killed(mill.process("resume", run, crash=point))
            mill.check()
            old_or_new(mill, old, new)
        _finish(mill, mill.process("resume", run))
    mill.check(whole=name == "readings")


def _finish(mill: Mill, process: Process) -> None:
    began = time.monotonic()
    process.finish()
    mill.tally.recovered(time.monotonic() - began)
    mill.check()


def _run(mill: Mill) -> str | None:
    """The run of today's code that died, if it had got as far as a plan."""
    mine = mill.engine.project.fingerprint(mill.names[0])
    plans = (mill.folder / f"data/{mill.names[0]}/_tidemill/runs").glob("*/plan.json")
    return next((p.parent.name for p in plans if json.loads(p.read_text())["fingerprint"] == mine), None)


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize(
    ("name", "kills"),
    [("readings", 3), ("changes", 1), pytest.param(ENDLESS, 2, marks=pytest.mark.nightly)],
)
def test_every_interval_is_the_old_one_or_the_new_one(
    mill: Callable[..., Mill], name: str, kills: int, round_: int
) -> None:
    world = mill(names=(name,))
    world.arrive(8, poison=1)
    world.source.add_raw(UNWANTED)  # chance may draw none, and a rule's row is what a backfill has to settle
    if name != "readings":
        world.pass_time()
    world.run()
    points = (*POINTS, *OF_STATES) if name == ENDLESS else POINTS
    if name != "readings":
        # Nothing of it is set aside, so that there is nothing to settle.
        points = tuple(point for point in points if point is not Point.QUARANTINE_SETTLED)
    # Each of its backfills goes through all intervals, one after the other.
    kills = kills if not FULL else 2 * kills if name == ENDLESS else len(points)
    for number, point in enumerate(world.chance.sample(points, kills)):
        kill_backfill(world, point, resumed=number % 3 == 2)
    world.settle()
