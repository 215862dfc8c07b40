"""Each guard, removed: the matrix must notice. A guard whose removal nothing notices guards nothing, or is not tested."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from deltalake import DeltaTable

from tests.fire.held import Held
from tests.fire.matrix import report_mutant
from tests.fire.mill import BEGIN, Mill
from tests.fire.test_05_two_drivers import second_driver
from tests.fire.test_10_disorder import disorder
from tests.fire.test_15_upkeep import upkeep_beside
from tidemill import TidemillError
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Guard, Point, without

pytestmark = [pytest.mark.row(17), pytest.mark.timeout(900)]
FIRST_DAY = Request.between("2024-03-01", "2024-03-02")


def live_dies_after_its_commit(mill: Mill) -> None:
    mill.arrive(2, poison=1)
    # The second batch is the one of the bad record.
    assert mill.killed(mill.process("run", crash=Point.COMMITTED, crash_nth=2))
    mill.settle()


def compacted_between_stage_and_swap(mill: Mill) -> None:
    mill.arrive(9, spread=timedelta(minutes=5))
    mill.pass_time()
    mill.run()
    mill.use(2)
    request = Request(states=frozenset({State.STALE}))
    with (
        Held([Point.MANIFEST_SAVED]) as held,
        held.begun(lambda: mill.engine.backfill("readings", request)) as done,
    ):
        held.at()
        # By a stranger: upkeep leaves the intervals of a run alone.
        compacted = DeltaTable(str(mill.folder / "data/readings")).optimize.compact()
        assert compacted["numFilesRemoved"]
        held.free()  # refused, it plans again and comes here again
        done()
    mill.check(whole=True)


def two_runs_fill_one_empty_day(mill: Mill) -> None:
    mill.source.add(mill.event(BEGIN))
    runs = [mill.engine.backfill("readings", FIRST_DAY, stage_only=True).run for _ in range(2)]
    mill.engine.publish(runs[0])
    with suppress(TidemillError):
        mill.engine.publish(runs[1])
    mill.check()


def unread_files_beside_a_backfill(mill: Mill) -> None:
    mill.arrive(2)
    mill.run()
    mill.use(2)
    mill.arrive(2)
    mill.engine.backfill("readings", Request(states=frozenset({State.STALE})))
    mill.settle()


def new_code(mill: Mill) -> None:
    mill.arrive(2)
    mill.run()
    mill.use(2)
    mill.settle()


def two_writers(mill: Mill) -> None:
    from tests.fire.test_03_swap_orders import play, streaming

    with streaming(mill) as live:
        play(mill, live, "SLLSSL")
        mill.check()
    mill.settle()


ATTACKS: dict[Guard, tuple[Callable[[Mill], None], tuple[str, ...]]] = {
    Guard.APP_TRANSACTION: (live_dies_after_its_commit, ("readings",)),
    Guard.QUARANTINE_FIRST: (live_dies_after_its_commit, ("readings",)),
    Guard.STILL_LIVE: (compacted_between_stage_and_swap, ("readings",)),
    Guard.ALONE: (two_runs_fill_one_empty_day, ("readings",)),
    Guard.PIN: (unread_files_beside_a_backfill, ("readings",)),
    Guard.LEASE: (second_driver, ("readings",)),
    Guard.UPKEEP: (upkeep_beside, ("readings",)),
    Guard.FINGERPRINT: (new_code, ("readings",)),
    Guard.DIRTY_MARKS: (disorder, ("hourly", "readings")),
    Guard.EXCLUSIVE_COMMIT: (two_writers, ("readings",)),
}
ELSEWHERE = {Guard.SAME_TOPIC}
"""Attacked in the row of their fault, with what it takes."""
OF_ROWS = (second_driver, upkeep_beside, disorder)
"""Attacks that are a row's own test: it shows that they do no harm."""
HARMLESS = {attack: names for attack, names in ATTACKS.values() if attack not in OF_ROWS}


def test_each_guard_is_attacked() -> None:
    assert set(Guard) == ATTACKS.keys() | ELSEWHERE


@pytest.mark.parametrize("attack", HARMLESS, ids=lambda attack: attack.__name__)
def test_the_attack_does_no_harm_where_the_guard_is(
    mill: Callable[..., Mill], attack: Callable[[Mill], None]
) -> None:
    attack(mill(names=HARMLESS[attack]))


@pytest.mark.parametrize("guard", ATTACKS)
def test_the_attack_is_noticed_where_it_is_not(mill: Callable[..., Mill], guard: Guard) -> None:
    attack, names = ATTACKS[guard]
    noticed = None
    try:
        with without(guard):
            attack(mill(names=names, without=guard))
    except (AssertionError, TidemillError, pytest.fail.Exception) as harm:
        # Nothing else will do: a process that does not start, say, is no harm that a guard prevents.
        noticed = f"{type(harm).__name__}: {harm}"
    report_mutant(guard, noticed)
    assert noticed is not None, f"nothing notices that {guard} is gone"
