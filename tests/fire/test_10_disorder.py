"""Row 10: events that come twice, late, and in any order. Exact in the end; what came too late is dirty meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.fire.mill import Mill
from tests.profile import FULL
from tidemill.ledger.judge import State

pytestmark = [pytest.mark.row(10), pytest.mark.timeout(3600)]


def disorder(mill: Mill) -> None:
    """Files whose events lie up to two days back, in any order, some of them sent before."""
    dirty: set[str] = set()
    for _ in range(4):
        mill.arrive(2, back=timedelta(days=2))
        mill.source.add(*mill.chance.sample(mill.source.events, 5))
        mill.run()
        mill.check()
        dirty |= set(mill.engine.coverage("hourly").in_state(State.DIRTY))
    assert dirty, "nothing was late: the test shows nothing"
    mill.settle()


@pytest.mark.parametrize("round_", range(4 if FULL else 1))
def test_repeats_stragglers_and_disorder(mill: Callable[..., Mill], round_: int) -> None:
    disorder(mill())
