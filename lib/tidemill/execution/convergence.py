"""How far a backfill goes whose states go from interval to interval without bound, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tidemill.errors import PlanError
from tidemill.ledger.judge import NOT_CLEAN
from tidemill.planning.plan import Chunk, Plan
from tidemill.view import View

if TYPE_CHECKING:
    from tidemill.execution.backfill import Done


def check_order(plan: Plan, at_once: int, *, carries: bool = False) -> None:
    """Raise :class:`PlanError` unless chunks come one after the other, in the order of time.

    ``carries``: the transform has turned out to carry states without bound, whatever the ledger knew when it was planned.
    """
    if (plan.asked is None and not carries) or plan.pin.reached is not None:
        return  # of a restart's intervals one alone has rows
    starts = [each.start for each in plan.intervals]
    wrong = "--max-concurrent" if at_once > 1 else "--newest-first" if starts != sorted(starts) else None
    if any(one.end != two.start for one, two in pairwise(plan.intervals)) and wrong is None:
        raise PlanError(
            f"{plan.pipeline}: its fold has no horizon, and the plan leaves intervals out between others",
            next_step="plan again: --from and --to without a gap",
        )
    if wrong is not None:
        raise PlanError(
            f"{plan.pipeline}: its fold has no horizon, so that each chunk begins with the states that the one before it "
            "ended with",
            next_step=f"leave {wrong} away",
        )


def converged(view: View, chunk: Chunk) -> bool:
    """Whether the chunk's rows were made from the states that the one before it has ended with."""
    first = chunk.intervals[0]
    return not any(each.interval == first and each.state in NOT_CLEAN for each in view.judged)


def reached(done: Done, plan: Plan, view: View) -> Done:
    """What was done, and how far that went; ``view``: the pipeline after it."""
    if done.refused is not None or any(each.outcome == "staged" for each in done.chunks):
        return done
    sizes = {chunk.number: len(chunk.intervals) for chunk in plan.chunks}
    computed = [each for each in done.chunks if each.outcome != "converged"]
    left = sum(sizes.values()) - sum(sizes.get(each.chunk, 0) for each in computed)
    last = computed[-1].manifest if computed else None
    agrees = last.snapshots.agrees if last is not None and last.snapshots is not None else None
    return replace(done, converged=agrees, untouched=left, astray=view.astray)
