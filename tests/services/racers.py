"""Processes that want the same leases at the same time."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from tidemill.errors import LeaseHeld
from tidemill.ledger.lease import Lease


def race_for_leases(state: str, rounds: int) -> None:
    """Three processes race for ``round-0`` and so on; assert that exactly one gets each."""
    spawn = multiprocessing.get_context("spawn")
    start, finish, won = spawn.Barrier(3), spawn.Barrier(3), spawn.Queue()
    racers = [spawn.Process(target=_race, args=(state, rounds, start, finish, won)) for _ in range(3)]
    for racer in racers:
        racer.start()
    winners = [won.get(timeout=60) for _ in range(rounds)]
    for racer in racers:
        racer.join(timeout=60)

    assert sorted(winners) == list(range(rounds))
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert won.empty()


def _race(state: str, rounds: int, start: Barrier, finish: Barrier, won: Queue[int]) -> None:
    for round_ in range(rounds):
        start.wait()
        try:
            with Lease(state, f"round-{round_}", what="a racer") as held:
                won.put(round_)
                finish.wait()
                held.check()
        except LeaseHeld:
            finish.wait()
