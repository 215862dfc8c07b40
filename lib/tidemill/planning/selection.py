"""Which intervals a request means. Pure: judged intervals in, intervals and reasons out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tidemill.errors import PlanError
from tidemill.intervals import Grain, Interval, interval_at, intervals_between, parse_moment
from tidemill.ledger.coverage import IntervalCoverage
from tidemill.ledger.judge import Judged, State


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for.

    ``states`` restrict to intervals in these states; empty with a range means every interval in it.
    ``include_open``: also intervals that the live stream has not sealed, as provisional rows.
    """

    start: datetime | None = None
    end: datetime | None = None
    states: frozenset[State] = frozenset()
    include_open: bool = False
    newest_first: bool = False

    @classmethod
    def between(cls, start: str, end: str) -> Request:
        """Every interval from ``start`` up to, not including, ``end``; moments as text, see ``parse_moment``."""
        return cls(start=parse_moment(start), end=parse_moment(end))

    @property
    def anything(self) -> bool:
        """Whether the request names intervals at all."""
        return bool(self.states or self.start or self.end or self.include_open)


def check_selected(pipeline: str, request: Request | None) -> None:
    """Raise :class:`PlanError` when the request names no interval: a backfill of everything is never a default."""
    if request is None or not request.anything:
        raise PlanError(
            f"{pipeline}: say which intervals",
            next_step="--from and --to, or --dirty, --stale, --missing, --open, or --plan FILE; "
            f"what there is: tidemill plan {pipeline}",
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An interval that was asked for and is not planned, and why."""

    interval: Interval
    why: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The intervals to recompute, each with its judgement, and those left out.

    ``asked``: how many of the chosen are computed in any case, where the others are only as far as states differ; None
    where the pipeline carries none, see :mod:`.forward`.
    """

    chosen: tuple[Judged, ...]
    left_out: tuple[LeftOut, ...]
    asked: int | None = None


def select(
    judged: Sequence[Judged],
    request: Request,
    *,
    grain: Grain,
    live: bool,
    begin: datetime | None,
    now: datetime,
    since: datetime | None = None,
) -> Selection:
    """Choose among ``judged``, and among the intervals the ledger does not know.

    ``live``: a live stream feeds the table; then an interval it does not know has no rows, and is not
    missing. ``begin``: where the pipeline's table should begin. ``since``: what is before was taken by its retention.
    Raises :class:`PlanError` when the range is empty, or lies outside what a live table holds.
    """
    if grain is Grain.ALL and (request.start or request.end):
        raise PlanError(
            "its table is one interval, all of time: no part of it can be computed alone",
            next_step="leave --from and --to out; all of it, whatever its state: tidemill replay P",
        )
    if request.start and request.end and request.start >= request.end:
        raise PlanError(
            f"the range is empty: {request.start:%Y-%m-%dT%H:%M} is not before {request.end:%Y-%m-%dT%H:%M}",
            next_step="--to is not included: --from 2013-01-05 --to 2013-01-06 is one day",
        )
    unknown = _unknown(judged, request, grain, begin, now, live=live)
    candidates = [*judged, *(each for each in unknown if since is None or each.interval.start >= since)]
    in_range = [each for each in candidates if _within(each.interval, request)]
    if live and request.start and request.end and judged and not in_range:
        first, last = judged[0].interval, judged[-1].interval
        raise PlanError(
            f"nothing between {request.start:%Y-%m-%dT%H:%M} and {request.end:%Y-%m-%dT%H:%M}: "
            f"the table covers {first} to {last}",
            next_step="choose a range inside it; see: tidemill status",
        )
    only_open = request.include_open and not (request.states or request.start or request.end)
    chosen, left_out = [], []
    for each in sorted(in_range, key=lambda j: j.interval, reverse=request.newest_first):
        if each.state is State.OPEN:
            if request.include_open:
                chosen.append(each)
            else:
                left_out.append(LeftOut(each.interval, f"open: {each.why}"))
        elif each.state is State.EXPIRED:
            left_out.append(LeftOut(each.interval, f"expired: {each.why}"))
        elif not only_open and (not request.states or each.state in request.states):
            chosen.append(each)
    if any(each.state is State.OPEN for each in chosen):
        # Provisional rows are taken back as one run: they travel alone.
        left_out += [LeftOut(j.interval, "not open") for j in chosen if j.state is not State.OPEN]
        chosen = [each for each in chosen if each.state is State.OPEN]
    return Selection(tuple(chosen), tuple(left_out))


def _unknown(
    judged: Sequence[Judged],
    request: Request,
    grain: Grain,
    begin: datetime | None,
    now: datetime,
    *,
    live: bool,
) -> list[Judged]:
    if grain is Grain.ALL:
        whole = interval_at(grain, now)
        unknown = not live and not judged and State.MISSING in request.states
        return [Judged(whole, State.MISSING, "never computed", IntervalCoverage())] if unknown else []
    start = request.start or begin or (judged[0].interval.start if judged else None)
    end = request.end or (judged[-1].interval.end if judged and (live or not begin) else now)
    wanted = State.MISSING in request.states or (request.start is not None and not request.states)
    if start is None or not wanted:
        return []
    known = {each.interval for each in judged}
    if live:
        # Between what a live table knows, an unknown interval is empty; outside, it is out of the data.
        if not judged or State.MISSING in request.states:
            return []
        start, end = max(start, judged[0].interval.start), min(end, judged[-1].interval.end)
        blank = (State.CLEAN, "empty")
    else:
        blank = (State.MISSING, "never computed")
    return [
        Judged(interval, *blank, IntervalCoverage())
        for interval in intervals_between(grain, start, end)
        if interval not in known
    ]


def _within(interval: Interval, request: Request) -> bool:
    return (request.start is None or interval.end > request.start) and (
        request.end is None or interval.start < request.end
    )
