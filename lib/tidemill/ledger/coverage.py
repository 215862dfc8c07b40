"""Coverage: what a table holds, interval by interval, folded from the facts in its log.

``fold(coverage, commit)`` is the only way coverage changes. It is pure, so that it can be rebuilt from the
log at any time, and tried out exhaustively in tests.

How an interval becomes clean again, given a swap pinned at version V:

- A late mark of version m is cleared when m <= V: the swap read the input up to V's source end, which
  includes what the stream refused at m.
- A writer's fingerprint last seen at version w is forgotten when w <= V: its rows were among the replaced.
- Rows that live appended after V stay, with their marks and fingerprints; then the content hash is unknown.
- An interval that a bootstrap owes is marked until a swap pinned at or after that version has read its history.
- The mark of an undone run is cleared by that run's own redo, whose V is older, and by later swaps.

A provisional swap clears and forgets nothing: it lends rows until the live stream takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from tidemill.intervals import Grain, intervals_between, parse_label
from tidemill.ledger import edge, kept, trails
from tidemill.ledger.beside import joined
from tidemill.ledger.carried import NOTHING, Lived, passed
from tidemill.ledger.covered import (
    BY_ANOTHER,
    ERASED,
    LATE,
    OWED,
    REOPENED,
    UNDONE,
    Coverage,
    IntervalCoverage,
    Mark,
    Shape,
    marked,
    sealed,
)
from tidemill.ledger.facts import Commit, Erased, Expired, Foreign, LiveBatch, Swap, Undo
from tidemill.ledger.seen import RECENT, BatchSeen

__all__ = [
    "BY_ANOTHER",
    "ERASED",
    "LATE",
    "OWED",
    "UNDONE",
    "Coverage",
    "IntervalCoverage",
    "Mark",
    "Shape",
    "fold",
    "fold_all",
    "sealed",
]


def fold_all(coverage: Coverage, commits: Iterable[Commit], shape: Shape) -> Coverage:
    """Fold commits in log order; those already folded are passed over."""
    # One mutable copy of the intervals for the whole run: folding n commits stays O(n).
    intervals = dict(coverage.intervals)
    current = coverage
    for commit in commits:
        if commit.version <= current.version:
            continue
        current = _fold_one(current, commit, shape, intervals)
    return replace(current, intervals=intervals)


def fold(coverage: Coverage, commit: Commit, shape: Shape) -> Coverage:
    """The coverage after one more commit."""
    return fold_all(coverage, (commit,), shape)


def _fold_one(
    coverage: Coverage, commit: Commit, shape: Shape, intervals: dict[str, IntervalCoverage]
) -> Coverage:
    match commit.fact:
        case LiveBatch() as fact:
            return _fold_live(coverage, commit, fact, shape, intervals)
        case Swap() as fact:
            coverage = _fold_swap(coverage, commit.version, fact, intervals)
        case Undo() as fact:
            for label, change in fact.intervals.items():
                before = intervals.get(label, IntervalCoverage())
                intervals[label] = _undone(before, change, fact, commit.version)
        case Expired() as fact:
            _take_out(intervals, fact, commit.version)
            coverage = replace(coverage, kept=kept.after(coverage.kept, fact))
        case Erased() as fact:
            # Rows that a batch only took in may come out of a later one.
            since = [label for label, each in intervals.items() if each.touched_at > fact.seen]
            for label in (*fact.intervals, *since):
                before = intervals.get(label, IntervalCoverage())
                intervals[label] = replace(before, marks=marked(before, Mark(ERASED, commit.version)))
            erased = commit.version if fact.gone else coverage.erased
            coverage = replace(coverage, forgotten=commit.version, erased=erased)
        case Foreign() as fact:
            touched = tuple(intervals) if fact.intervals is None else fact.intervals
            for label in touched:
                before = intervals.get(label, IntervalCoverage())
                marks = marked(before, Mark(f"{BY_ANOTHER}{fact.operation}", commit.version))
                intervals[label] = replace(before, hash=None, version=commit.version, marks=marks)
    return replace(coverage, version=commit.version)


def _fold_swap(
    coverage: Coverage, version: int, fact: Swap, intervals: dict[str, IntervalCoverage]
) -> Coverage:
    owed = False
    for label in fact.intervals:
        before = intervals.get(label, IntervalCoverage())
        owed |= any(mark.why == OWED and mark.version <= fact.pin for mark in before.marks)
        intervals[label] = _swapped(before, label, fact, version)
    aside, dropped = fact.left_out if owed else (0, 0)
    if fact.seed is not None:
        coverage = edge.begun_anew(coverage, version, fact, fact.seed, intervals)
    return replace(
        coverage,
        quarantined=coverage.quarantined + aside if fact.quarantined is None else fact.quarantined,
        dropped=coverage.dropped + dropped,
        # A run of before, published by hand, does not end the chain.
        carries=coverage.carries or fact.carries,
        trails=trails.followed(coverage.trails, version, fact.verdicts) if fact.verdicts else coverage.trails,
        erased=version if fact.erased else coverage.erased,
        opened=_opened(coverage, fact),
    )


def _undone(before: IntervalCoverage, change: int, fact: Undo, version: int) -> IntervalCoverage:
    lent = fact.run in before.provisional
    # A provisional swap stood in for rows the stream still owes; taking it back owes nothing.
    marks = before.marks if lent else marked(before, Mark(UNDONE, version, fact.run))
    return replace(
        before,
        rows=before.rows + change,
        hash=None,
        version=version,
        marks=marks,
        provisional=tuple(run for run in before.provisional if run != fact.run),
        forced=None if fact.run == before.run else before.forced,
    )


def _take_out(intervals: dict[str, IntervalCoverage], fact: Expired, version: int) -> None:
    for label, rows in fact.intervals.items():
        left = intervals.get(label, IntervalCoverage()).rows - rows
        if left > 0:  # those that came meanwhile
            intervals[label] = replace(intervals[label], rows=left, hash=None, version=version)
        else:
            intervals.pop(label, None)


def _swapped(before: IntervalCoverage, label: str, fact: Swap, version: int) -> IntervalCoverage:
    result = fact.intervals[label]
    # Nothing came to the interval since the pin: it holds what was computed, no more and no less.
    quiet, gone = before.version <= fact.pin, -1 if fact.provisional else fact.pin
    after = replace(
        before,
        rows=result.rows if quiet else before.rows + (result.added - result.removed if fact.changed else 0),
        hash=result.hash if quiet else None,
        version=version,
        run=fact.run,
        # What was found equal no gate had to let pass.
        forced=fact.forced if result.added or result.removed else None,
        beside=joined(before.beside, before.writers, fact.beside, version, gone),
        erased=version if label in fact.erased else before.erased,
    )
    if fact.provisional:
        lent = (*(run for run in before.provisional if run != fact.run), fact.run)
        return replace(after, provisional=lent)
    return replace(
        after,
        writers={**{k: v for k, v in before.writers.items() if v > fact.pin}, fact.fingerprint: version},
        marks=tuple(m for m in before.marks if m.version > fact.pin and (m.why, m.run) != (UNDONE, fact.run)),
        checked=version,
        pin=fact.pin,
        read=fact.source_end,
        provisional=(),
        carried=fact.states.get(label),
    )


def _fold_live(
    coverage: Coverage,
    commit: Commit,
    fact: LiveBatch,
    shape: Shape,
    intervals: dict[str, IntervalCoverage],
) -> Coverage:
    version = commit.version
    coverage = edge.planted(coverage, version, fact, shape, intervals)
    if fact.stateful and coverage.live_fingerprint not in (None, fact.fingerprint):
        edge.inherited(coverage, shape, intervals, {fact.fingerprint: version})
    _changed_by_live(coverage, version, fact, shape, intervals)
    _reached_by_live(version, fact, shape, intervals)
    last = _lived(coverage, version, fact, intervals)
    _marked_by_live(coverage, version, fact, shape, intervals)
    broken = edge.broken(coverage, version, fact, shape, intervals)
    return replace(
        _counted(coverage, commit, fact),
        version=version,
        query=fact.query,
        batch=fact.batch,
        live_version=version,
        live_at=commit.at,
        live_fingerprint=fact.fingerprint,
        stateful=fact.stateful,
        watermark=fact.watermark,
        source_begin=coverage.source_begin if coverage.source_begin is not None else fact.source_end,
        source_end=fact.source_end,
        carries=fact.carries,
        live_last=last,
        broken=coverage.broken or broken,
        ahead=edge.ahead(coverage.ahead, fact.touched, fact.watermark) if fact.stateful else (),
        timed={**fact.timed, **coverage.timed},
        astray=Mark(broken, version) if broken and fact.stateful else coverage.astray,
        opened=_opened(coverage, fact),
    )


def _changed_by_live(
    coverage: Coverage, version: int, fact: LiveBatch, shape: Shape, intervals: dict[str, IntervalCoverage]
) -> None:
    for label in {*fact.added, *fact.removed}:
        before = intervals.get(label, IntervalCoverage())
        intervals[label] = replace(
            before,
            rows=before.rows + fact.added.get(label, 0) - fact.removed.get(label, 0),
            hash=None,
            version=version,
            live_version=version,
            writers={**before.writers, fact.fingerprint: version},
            beside=joined(before.beside, before.writers, fact.beside, version),
        )
        if coverage.live and coverage.stateful and sealed(coverage, parse_label(shape.grain, label), shape):
            # The reach is longer than declared: a chain of sessions, say, that outlasts the lookahead.
            marks = marked(intervals[label], Mark(REOPENED, version))
            intervals[label] = replace(intervals[label], marks=marks)


def _reached_by_live(
    version: int, fact: LiveBatch, shape: Shape, intervals: dict[str, IntervalCoverage]
) -> None:
    for label in {*fact.reached, *edge.further(fact, shape)}:
        # Rows that this code left out are its doing as much as those it wrote.
        before = intervals.get(label, IntervalCoverage())
        made = joined(before.beside, before.writers, fact.beside, version)
        intervals[label] = replace(before, writers={**before.writers, fact.fingerprint: version}, beside=made)


def _lived(coverage: Coverage, version: int, fact: LiveBatch, intervals: dict[str, IntervalCoverage]) -> str:
    """Note the states that a batch gives at intervals' ends; give the last interval that a stream has given any of."""
    given = _given(coverage, fact, intervals)
    for label, lived in given.items():
        before = intervals.get(label) or IntervalCoverage(beside=joined((), {}, fact.beside, version))
        writers = {**before.writers, fact.fingerprint: version} if label in fact.states else before.writers
        intervals[label] = replace(before, lived=lived, writers=writers)
    return max([coverage.live_last, *given])


def _marked_by_live(
    coverage: Coverage, version: int, fact: LiveBatch, shape: Shape, intervals: dict[str, IntervalCoverage]
) -> None:
    # It may have had the key of who was erased since it began.
    erased = {*fact.added, *fact.reached} if 0 <= fact.began < coverage.forgotten else ()
    for why, labels in ((LATE, fact.late), (OWED, _labels(shape.grain, fact.owed)), (ERASED, erased)):
        for label in labels:
            before = intervals.get(label, IntervalCoverage())
            intervals[label] = replace(before, marks=marked(before, Mark(why, version)))


def _counted(coverage: Coverage, commit: Commit, fact: LiveBatch) -> Coverage:
    """The coverage with what a batch has read, let out and judged."""
    rows = sum(fact.added.values()) - sum(fact.removed.values())
    seen = BatchSeen(fact.batch, commit.version, commit.at, fact.input_rows, rows, fact.quarantined)
    first = min((start for start, _ in fact.touched), default=None)
    until = max((end for _, end in fact.touched), default=None)
    return replace(
        coverage,
        touched_from=_of_both(min, coverage.touched_from, first),
        touched_until=_of_both(max, coverage.touched_until, until),
        input_rows=coverage.input_rows + fact.input_rows,
        quarantined=coverage.quarantined + fact.quarantined + fact.output_quarantined,
        dropped=coverage.dropped + fact.dropped + fact.output_dropped,
        recent=(*coverage.recent, seen)[-RECENT:],
        trails=trails.followed(coverage.trails, commit.version, fact.verdicts)
        if fact.verdicts
        else coverage.trails,
    )


def _opened(coverage: Coverage, fact: LiveBatch | Swap) -> tuple[str, ...]:
    if not fact.opened or fact.fingerprint in coverage.opened:
        return coverage.opened
    return (*coverage.opened, fact.fingerprint)


def _given(
    coverage: Coverage, fact: LiveBatch, intervals: Mapping[str, IntervalCoverage]
) -> dict[str, Lived]:
    if not fact.states:
        return {}
    last = coverage.live_last
    newest = intervals[last].lived if last else None
    known = {}
    if min(fact.states) <= last:  # one that was given before: all are needed
        known = {label: each.lived for label, each in intervals.items() if each.lived is not None}
    return passed(known, NOTHING if newest is None else newest.after, last, fact.states)


def _labels(grain: Grain, ranges: Iterable[tuple[int, int]]) -> Iterator[str]:
    for start, end in ranges:
        first, until = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        yield from (interval.label for interval in intervals_between(grain, first, until))


def _of_both(choose: Callable[[int, int], int], a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else choose(a, b)
