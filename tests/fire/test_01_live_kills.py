"""Row 1: a live driver dies at each point of a batch; a restart, unaided, gives the same tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.fire.mill import ENDLESS, LIVE_POINTS, RESTART_POINTS, WITH_FOLD, Mill
from tests.fire.tank import STORE
from tests.profile import FULL
from tidemill.testing import Point

pytestmark = [pytest.mark.row(1), pytest.mark.timeout(3600)]
ROUNDS = 7 if FULL else 1
STORE_POINTS = (*LIVE_POINTS, Point.REFUSALS_COPIED, Point.SEED_PLANTED)
STATE = "data/{}/_tidemill/checkpoint/state/**/*.changelog"


def kill_live(mill: Mill, point: Point) -> None:
    """New files, and a driver that dies at ``point``, at its first batch or one of the next."""
    mill.arrive(3 if FULL else 2, poison=1)
    # Not every batch has states to keep.
    nth = 1 if point is Point.STATES_KEPT else mill.chance.randint(1, 2)
    process = mill.process("run", crash=point, crash_nth=nth)
    assert mill.killed(process), f"the run never came to {point}"
    mill.check()


def kill_in_state_commit(mill: Mill) -> None:
    """New files, and a driver that dies as soon as one of the state's partitions is written."""
    mill.arrive(2)
    state = STATE.format(mill.chance.choice(("hourly", "changes")))
    process = mill.process("run", crash_on_file=str(mill.folder / state))
    assert mill.killed(process), "no state was written"
    mill.check()


@pytest.mark.nightly
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_states_that_go_on_for_ever_do_so_after_kills(mill: Callable[..., Mill], round_: int) -> None:
    world = mill(names=("readings", ENDLESS))
    for point in world.chance.sample((*LIVE_POINTS, Point.STATES_KEPT), 9 if FULL else 3):
        # It has states to keep where it has passed an interval's end.
        world.arrive(1, spread=timedelta(hours=20))
        kill_live(world, point)
    world.pass_time()
    # Late, so that the stream's own states are not those that the table will have.
    world.arrive(1, back=timedelta(days=5))
    world.run()
    world.repair(ENDLESS)
    for point in world.chance.sample(RESTART_POINTS, len(RESTART_POINTS) if FULL else 2):
        if world.engine.foresee_restart(ENDLESS).chunks:
            assert world.killed(world.process("restart", ENDLESS, crash=point)), f"it never came to {point}"
            world.check()
    world.settle()


@pytest.mark.nightly
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_an_event_store_after_kills_holds_one_outcome_a_command(
    mill: Callable[..., Mill], round_: int
) -> None:
    world = mill(names=(STORE,))
    for point in world.chance.sample(STORE_POINTS, len(STORE_POINTS) if FULL else 4):
        # A seed is planted where the code is another: what was decided by the code of before stays.
        world.use(world.factor + 1)
        world.arrive(3, poison=1)
        nth = 1 if point is Point.SEED_PLANTED else world.chance.randint(1, 2)
        assert world.killed(world.process("run", crash=point, crash_nth=nth)), (
            f"the run never came to {point}"
        )
        world.check()
    shutil.rmtree(world.folder / "data/tank/_tidemill/checkpoint")
    world.arrive(1)
    assert world.killed(world.process("run", crash=Point.COMMITTED, crash_nth=2))
    world.restart()
    world.settle()


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_tables_after_kills_are_those_of_one_quiet_run(mill: Callable[..., Mill], round_: int) -> None:
    world = mill(names=WITH_FOLD)
    for point in world.chance.sample(LIVE_POINTS, len(LIVE_POINTS) if FULL else 3):
        kill_live(world, point)
    kill_in_state_commit(world)
    world.restart()
    world.pass_time()
    world.settle()
