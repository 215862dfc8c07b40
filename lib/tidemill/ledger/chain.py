"""The chain of a fold without a horizon: each interval's state comes from the one before it. Pure.

An interval that is not clean takes all after it along, until an interval that begins with the state that the one before it
ended with, by their digests. So it does not matter who computed either, nor when: a backfill that ends where the stream
was has mended the chain; one that ends elsewhere leaves a seam, and what comes after is not clean. Nor is what the stream
adds later, as long as its own state is not the table's.

Where the stream passed over input, no digest of its own says anything: what it passed over may be of any time to come. So each
interval is dirty that no backfill has computed since, until the stream has begun anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tidemill.intervals import Grain, Interval, intervals_between, parse_label
from tidemill.ledger.carried import NOTHING
from tidemill.ledger.coverage import Coverage, IntervalCoverage, Shape, sealed
from tidemill.ledger.judge import NOT_CLEAN, Judged, State


@dataclass(frozen=True, slots=True)
class Chain:
    """Every interval as it is judged with those before it. ``astray``: why the stream's own state is not to be trusted."""

    judged: tuple[Judged, ...]
    astray: str | None = None


def follow(judged: Sequence[Judged], coverage: Coverage, shape: Shape) -> Chain:
    """Intervals, judged each by itself, in time order: as they are where the state comes from the one before.

    Those between known ones are there, too, where the chain is broken: other states might have given them rows; and where
    the watermark has not passed them.
    """
    if not coverage.carries:
        return Chain(tuple(judged))
    walk = _Walk(coverage, shape)
    found = [each for one in judged for each in walk.past(one)]
    found += walk.rest()
    return Chain(tuple(found), walk.end() if coverage.live else None)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the table's states are at the beginning of an interval.

    ``digest``: of all of them; None where nothing says. ``made``: by interval before it, the name under which those are kept
    that changed in it. ``last``: the interval that the ledger knows before it; None where there is none. ``seam``: the last
    interval that does not begin with what the one before it ended with; None where all do.
    """

    digest: str | None
    made: Mapping[str, str]
    last: Interval | None
    seam: Interval | None = None


def standing(coverage: Coverage, grain: Grain, first: Interval) -> Standing:
    """The states at the beginning of ``first``, wherever the chain is broken."""
    live, state = NOTHING, _first(coverage)
    made: dict[str, str] = {}
    last = seam = None
    known = [(parse_label(grain, label), detail) for label, detail in coverage.intervals.items()]
    for interval, detail in sorted(known, key=lambda each: each[0]):
        if interval >= first:
            break
        live, before, after = _link(detail, live, coverage)
        if before != state and not (last is None and before is None):
            seam = interval
        name = made_of(detail)
        if name is not None:
            made[interval.label] = name
        last, state = interval, after
    return Standing(state, made, last, seam)


def ends(coverage: Coverage, grain: Grain, intervals: Sequence[Interval]) -> dict[str, str | None]:
    """The digest of all states at the ends of some intervals, in order; None where nothing says."""
    live, state = NOTHING, _first(coverage)
    found: dict[str, str | None] = {}
    known = {parse_label(grain, label): detail for label, detail in coverage.intervals.items()}
    for each in sorted({*known, *intervals}):
        if each in known:
            live, _, state = _link(known[each], live, coverage)
        found[each.label] = state
    return {each.label: found[each.label] for each in intervals}


def made_of(detail: IntervalCoverage) -> str | None:
    """The name under which the states are kept that an interval changed; None where it changed none."""
    if detail.carried is not None:
        return detail.carried.made
    return (detail.lived.made or None) if detail.lived is not None else None


def _first(coverage: Coverage) -> str | None:
    # What was passed over may lie before all that is known: then only who has read everything knows.
    return NOTHING if coverage.live and coverage.broken is None else None


def _link(detail: IntervalCoverage, live: str, coverage: Coverage) -> tuple[str, str | None, str | None]:
    """The stream's own state after an interval; what the interval's rows began with, and ended with."""
    before = live
    if detail.lived is not None:
        live = detail.lived.after
    if detail.carried is not None:
        return live, detail.carried.before, detail.carried.after
    return (live, before, live) if coverage.live else (live, None, None)


class _Walk:
    def __init__(self, coverage: Coverage, shape: Shape) -> None:
        self._coverage, self._shape = coverage, shape
        self._live, self._state = NOTHING, _first(coverage)
        self._broken: str | None = None
        self._last: Interval | None = None

    def past(self, one: Judged) -> Iterator[Judged]:
        last = self._last
        if last is not None and last.end < one.interval.start:
            yield from self._gap(last.end, one.interval.start)
        self._live, before, after = _link(one.detail, self._live, self._coverage)
        first, untold = last is None, self._passed_over(one.detail)
        seam = before != self._state and not (first and before is None)
        if self._broken is None and untold:
            self._broken = untold
        if self._broken is None and seam:
            where = "what the stream began with" if first else f"{last} ended with"
            self._broken = f"its state is not the one that {where}"
        yield self._judged(one, seam=seam or untold is not None)
        if self._broken is None and one.state in NOT_CLEAN:
            why = f": {one.why}" if one.why else ""
            self._broken = f"its state comes from {one.interval}, which is {one.state.value}{why}"
        self._state, self._last = after, one.interval

    def rest(self) -> Iterator[Judged]:
        """Of a stream, the intervals after the last known one that the watermark has passed."""
        if self._coverage.live and self._coverage.watermark and self._last is not None:
            until = self._shape.grain.floor(datetime.fromtimestamp(self._coverage.watermark / 1000, UTC))
            if self._last.end < until:
                yield from self._gap(self._last.end, until)

    def _gap(self, start: datetime, until: datetime) -> Iterator[Judged]:
        between = list(intervals_between(self._shape.grain, start, until))
        untold = self._passed_over(_NONE)
        if self._broken is None and untold:
            self._broken = untold
        elif self._broken is None and not self._coverage.live:
            self._broken = f"its state comes from {between[0]}, which was never computed"
        elif self._broken is None and self._state != self._live:
            self._broken = f"its state is not the one that {self._last} ended with"
        # States that come from elsewhere do not come right when those before do.
        seam = self._coverage.live and self._state != self._live
        for each in between:
            if not sealed(self._coverage, each, self._shape):
                # A timer may yet give it rows.
                yield self._judged(Judged(each, State.OPEN, "the stream may still add rows", _NONE))
            elif self._broken is not None:
                state, why = (State.CLEAN, "") if self._coverage.live else (State.MISSING, "never computed")
                mine = untold is not None or (seam and each is between[0])
                yield self._judged(Judged(each, state, why, _NONE), seam=mine)

    def _judged(self, one: Judged, *, seam: bool = False) -> Judged:
        if self._broken is None:
            return one
        if one.state is State.CLEAN:
            return replace(one, state=State.DIRTY, why=self._broken, inherited=not seam)
        return replace(one, why=f"{one.why}; {self._broken}") if one.state is State.OPEN else one

    def end(self) -> str | None:
        if self._broken is None and self._state != self._live:
            return f"its state is not the one that {self._last} ended with"
        return self._broken or self._passed_over(_NONE)

    def _passed_over(self, detail: IntervalCoverage) -> str | None:
        """Why nobody can tell whether the state that an interval's rows come from has seen all input; None where it has."""
        astray = self._coverage.astray
        if astray is None or (detail.carried is not None and (detail.pin or 0) >= astray.version):
            return None
        return f"its state comes from a stream that passed over input: {astray.why}"


_NONE = IntervalCoverage()
