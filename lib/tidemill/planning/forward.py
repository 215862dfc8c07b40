"""What a request means for a pipeline whose state goes from interval to interval without bound. Pure.

It is computed forward, from the earliest interval whose state does not hold, without a gap, and as far as states differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tidemill.errors import PlanError
from tidemill.intervals import Grain, Interval, intervals_between
from tidemill.ledger.coverage import IntervalCoverage
from tidemill.ledger.judge import NOT_CLEAN, Judged, State
from tidemill.planning.selection import Request, Selection

AS_FAR_AS = "as far as states differ"


def forward(
    selection: Selection, judged: Sequence[Judged], request: Request, *, grain: Grain, live: bool
) -> Selection:
    """The intervals to compute one after the other: those that were asked for, what they need before, what may follow.

    ``judged``: every interval that is known, in time order, judged with those before it. Raises :class:`PlanError` for
    open intervals, and another order than that of time.
    """
    if request.newest_first:
        raise PlanError(
            "the state goes from interval to interval: the newest cannot be computed first",
            next_step="leave --newest-first away",
        )
    if not selection.chosen:
        return selection
    # By their state, those are meant that are at fault; what they take along may turn out to be right. Who asks for clean ones
    # means all of them, whatever the ledger says.
    by_fault = bool(request.states) and State.CLEAN not in request.states
    at_fault = [each for each in selection.chosen if not (each.inherited and by_fault)]
    asked = sorted(each.interval for each in at_fault or selection.chosen[:1])
    if any(each.state is State.OPEN for each in selection.chosen):
        raise PlanError(
            "the state of an open interval is the stream's own: provisional rows cannot be computed from it",
            next_step="leave --open away; wait until the watermark has passed the interval",
        )
    first, last = asked[0], asked[-1]
    needed = [each.interval for each in judged if each.state in NOT_CLEAN]
    if not live and judged and judged[-1].interval.end < first.start:
        needed.append(next(iter(intervals_between(grain, judged[-1].interval.end, first.start))))
    first = min([first, *needed], key=lambda each: each.start)
    known = {each.interval: each for each in (*judged, *selection.chosen)}
    chosen = list(_range(known, first, last, grain, live=live))
    after = [each.interval for each in judged if each.interval > last]
    follow = list(_range(known, _next(last), after[-1], grain, live=live)) if after else []
    opened = next((n for n, each in enumerate(follow) if each.state is State.OPEN), len(follow))
    follow = [replace(each, why=AS_FAR_AS) if each.state is State.CLEAN else each for each in follow[:opened]]
    mine = {each.interval for each in (*chosen, *follow)}
    left_out = tuple(each for each in selection.left_out if each.interval not in mine)
    return Selection((*chosen, *follow), left_out, len(chosen))


def _next(interval: Interval) -> Interval:
    return Interval(interval.end, interval.grain.after(interval.end), interval.grain)


def _range(
    known: dict[Interval, Judged], first: Interval, last: Interval, grain: Grain, *, live: bool
) -> Sequence[Judged]:
    blank = (State.CLEAN, "empty") if live else (State.MISSING, "never computed")
    return [
        known.get(each, Judged(each, *blank, IntervalCoverage()))
        for each in intervals_between(grain, first.start, last.end)
    ]
