"""Row 3: a swap and a live append, phase by phase, in every order. Neither waits for the other; nothing is lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.fire.held import Held
from tests.fire.mill import Mill
from tests.profile import FULL
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Point, Process

pytestmark = [pytest.mark.row(3), pytest.mark.timeout(3600)]
LIVE = (Point.FILES_STAGED, Point.COMMIT_CHECKED, Point.COMMITTED)
SWAP = (Point.CHUNK_STAGED, Point.COMMIT_CHECKED, Point.COMMITTED)
ORDERS = ["".join(order) for order in sorted(set(itertools.permutations("LLLSSS")))]
STALE = Request(states=frozenset({State.STALE}))


def play(mill: Mill, live: Process, order: str) -> None:
    """One batch and one swap of the day that it adds to, each let on by a phase when its letter comes."""
    mill.arrive(1)
    assert live.held() is LIVE[0]
    mill.use(mill.factor + 1)
    with Held(SWAP) as held, held.begun(lambda: mill.engine.backfill("readings", STALE)) as backfill:
        assert held.at() is SWAP[0]
        phases = {"L": 0, "S": 0}
        for letter in order:
            phases[letter] += 1
            if letter == "L":
                _on(live.release, live.held, LIVE, phases["L"], mill)
            else:
                _on(held.release, held.at, SWAP, phases["S"], mill)
        done = backfill()
    assert [chunk.outcome for chunk in done.chunks] == ["swapped"]
    for chunk in done.chunks:
        mill.tally.retried(chunk.retries)


def _on(
    release: Callable[[], None], at: Callable[[], Point], points: tuple[Point, ...], phase: int, mill: Mill
) -> None:
    """Let one side on to its next phase. Who lost a race comes to the same point again, once."""
    here = points[phase - 1]
    release()
    if phase == len(points):
        return
    retries = 0
    while at() is here:
        retries += 1
        assert retries <= 1, f"lost more than one race at {here}"
        release()
    mill.tally.retried(retries)
    assert at() is points[phase]


@contextmanager
def streaming(mill: Mill) -> Iterator[Process]:
    """A live driver that is held at each of its phases."""
    mill.arrive(1)
    live = mill.process("stream", hold=LIVE)
    for point in LIVE:
        assert live.held() is point
        live.release()
    yield live
    live.free()
    live.stop()


def test_every_order_gives_what_one_after_the_other_would(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",), spread=timedelta(minutes=5))
    orders = ORDERS if FULL else world.chance.sample(ORDERS, 8)
    with streaming(world) as live:
        for order in orders:
            play(world, live, order)
            world.check()
    world.settle()
