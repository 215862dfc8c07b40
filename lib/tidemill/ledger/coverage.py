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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tidemill.intervals import Grain, Interval, intervals_between, parse_label
from tidemill.ledger import kept, trails
from tidemill.ledger.beside import Stood, joined
from tidemill.ledger.carried import NOTHING, Carried, Lived, Seed, passed
from tidemill.ledger.facts import Commit, Erased, Expired, Foreign, LiveBatch, Offsets, Swap, Undo
from tidemill.ledger.kept import Kept
from tidemill.ledger.seen import RECENT, BatchSeen
from tidemill.ledger.trails import Trails


@dataclass(frozen=True, slots=True)
class Shape:
    """What a fold needs to know of the pipeline."""

    grain: Grain
    lookback: timedelta
    lookahead: timedelta
    recorded: bool = False
    """Rows are what was decided, once: neither newer code nor an earlier event makes them other ones."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Why an interval is dirty, and the version that made it so; for an undone backfill also its run."""

    why: str
    version: int
    run: str | None = None


@dataclass(frozen=True, slots=True)
class IntervalCoverage:
    """What the log says of one interval.

    ``hash`` is the content hash at ``version`` and None when rows came since. ``writers``: for each
    fingerprint that wrote rows now in the interval, the last version at which it did. ``marks``: why it
    is dirty. ``checked``: the version at which it was last swapped or found equal; with its run, its pin
    and how far each input was ``read`` then. ``provisional``: the runs whose rows stand in for what the
    live stream still owes, oldest first. ``forced``: why the last swap of its rows was published past the gate.
    ``lived``: the state that the stream ended it with, ``carried``: what its last swap began and ended with. ``beside``: what
    its rows were made beside; ``erased``: the last version that took an erased person out of it.
    """

    rows: int = 0
    hash: str | None = None
    version: int = -1
    live_version: int = -1
    writers: Mapping[str, int] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    checked: int | None = None
    pin: int | None = None
    run: str | None = None
    read: Offsets | None = None
    provisional: tuple[str, ...] = ()
    forced: str | None = None
    lived: Lived | None = None
    carried: Carried | None = None
    beside: Stood = ()
    erased: int = -1


@dataclass(frozen=True, slots=True)
class Coverage:
    """Everything the log says of a table, up to and including ``version``.

    ``source_begin`` is how far the first live batch read, ``source_end`` how far the stream had read at
    ``live_version``; ``touched_from`` and ``touched_until`` the earliest and the latest event time it has
    seen (epoch seconds). ``trails``: how each expectation of the pipeline's suites has fared. ``broken``: where a live
    batch did not go on where the one before had ended. ``kept``: what the sink's retention has left. ``carries``: states
    go from interval to interval, see :mod:`.chain`; ``live_last`` is the last interval at whose end the stream gave some.
    ``seed``: what the stream was last to begin anew with. ``erased``: the last version that took an erased person out;
    ``forgotten``: the last at which somebody was erased.
    """

    version: int = -1
    query: str | None = None
    batch: int = -1
    live_version: int = -1
    live_at: int | None = None
    live_fingerprint: str | None = None
    stateful: bool = False
    watermark: int | None = None
    touched_from: int | None = None
    touched_until: int | None = None
    source_begin: Offsets | None = None
    source_end: Offsets | None = None
    input_rows: int = 0
    quarantined: int = 0
    dropped: int = 0
    recent: tuple[BatchSeen, ...] = ()
    trails: Trails = ()
    broken: str | None = None
    kept: Kept | None = None
    carries: bool = False
    live_last: str = ""
    seed: Seed | None = None
    erased: int = -1
    forgotten: int = -1
    intervals: Mapping[str, IntervalCoverage] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether a live stream has ever published here."""
        return self.query is not None


UNDONE = "a backfill was undone"
LATE = "late rows"
BY_ANOTHER = "written by "
OWED = "its history is not computed yet"
ERASED = "a person was erased"
REOPENED = "rows came after it was thought complete"


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
            since = [label for label, each in intervals.items() if each.live_version > fact.seen]
            for label in (*fact.intervals, *since):
                before = intervals.get(label, IntervalCoverage())
                intervals[label] = replace(before, marks=_marked(before, Mark(ERASED, commit.version)))
            coverage = replace(coverage, forgotten=commit.version)
        case Foreign() as fact:
            touched = tuple(intervals) if fact.intervals is None else fact.intervals
            for label in touched:
                before = intervals.get(label, IntervalCoverage())
                marks = _marked(before, Mark(f"{BY_ANOTHER}{fact.operation}", commit.version))
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
        coverage = _begun_anew(coverage, fact.fingerprint, fact.seed, intervals)
    return replace(
        coverage,
        quarantined=coverage.quarantined + aside if fact.quarantined is None else fact.quarantined,
        dropped=coverage.dropped + dropped,
        # A run of before, published by hand, does not end the chain.
        carries=coverage.carries or fact.carries,
        trails=trails.followed(coverage.trails, version, fact.verdicts) if fact.verdicts else coverage.trails,
        erased=version if fact.erased else coverage.erased,
    )


def _begun_anew(
    coverage: Coverage, fingerprint: str, seed: Seed, intervals: dict[str, IntervalCoverage]
) -> Coverage:
    """The stream's own states are those that the seed says, made by this code; they go on from there."""
    if seed.last:
        before = intervals.get(seed.last, IntervalCoverage())
        made = before.lived.made if before.lived is not None else ""
        intervals[seed.last] = replace(before, lived=Lived(seed.state, made))
    return replace(coverage, seed=seed, live_last=seed.last, live_fingerprint=fingerprint)


def _undone(before: IntervalCoverage, change: int, fact: Undo, version: int) -> IntervalCoverage:
    lent = fact.run in before.provisional
    # A provisional swap stood in for rows the stream still owes; taking it back owes nothing.
    marks = before.marks if lent else _marked(before, Mark(UNDONE, version, fact.run))
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
    if fact.stateful and coverage.live_fingerprint not in (None, fact.fingerprint):
        _mark_inherited_state(coverage, shape, intervals, {fact.fingerprint: version})
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
            marks = _marked(intervals[label], Mark(REOPENED, version))
            intervals[label] = replace(intervals[label], marks=marks)
    for label in fact.reached:
        # Rows that this code left out are its doing as much as those it wrote.
        before = intervals.get(label, IntervalCoverage())
        made = joined(before.beside, before.writers, fact.beside, version)
        intervals[label] = replace(before, writers={**before.writers, fact.fingerprint: version}, beside=made)
    given = _given(coverage, fact, intervals)
    for label, lived in given.items():
        before = intervals.get(label, IntervalCoverage())
        writers = {**before.writers, fact.fingerprint: version} if label in fact.states else before.writers
        intervals[label] = replace(before, lived=lived, writers=writers)
    last = max([coverage.live_last, *given])
    # It may have had the key of who was erased since it began.
    erased = {*fact.added, *fact.reached} if 0 <= fact.began < coverage.forgotten else ()
    for why, labels in ((LATE, fact.late), (OWED, _labels(shape.grain, fact.owed)), (ERASED, erased)):
        for label in labels:
            before = intervals.get(label, IntervalCoverage())
            intervals[label] = replace(before, marks=_marked(before, Mark(why, version)))
    rows = sum(fact.added.values()) - sum(fact.removed.values())
    seen = BatchSeen(fact.batch, version, commit.at, fact.input_rows, rows, fact.quarantined)
    first = min((start for start, _ in fact.touched), default=None)
    until = max((end for _, end in fact.touched), default=None)
    return replace(
        coverage,
        version=version,
        query=fact.query,
        batch=fact.batch,
        live_version=version,
        live_at=commit.at,
        live_fingerprint=fact.fingerprint,
        stateful=fact.stateful,
        watermark=fact.watermark,
        touched_from=_of_both(min, coverage.touched_from, first),
        touched_until=_of_both(max, coverage.touched_until, until),
        source_begin=coverage.source_begin if coverage.source_begin is not None else fact.source_end,
        source_end=fact.source_end,
        input_rows=coverage.input_rows + fact.input_rows,
        quarantined=coverage.quarantined + fact.quarantined + fact.output_quarantined,
        dropped=coverage.dropped + fact.dropped + fact.output_dropped,
        recent=(*coverage.recent, seen)[-RECENT:],
        trails=trails.followed(coverage.trails, version, fact.verdicts) if fact.verdicts else coverage.trails,
        carries=fact.carries,
        live_last=last,
        broken=coverage.broken or kept.break_between(coverage.source_end, fact),
    )


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


def _mark_inherited_state(
    coverage: Coverage, shape: Shape, intervals: dict[str, IntervalCoverage], heir: Mapping[str, int]
) -> None:
    """Unsealed intervals hold state made by the former code, whoever publishes their rows in the end.

    The ``heir`` may publish none of them: rows that it leaves out are its doing, too.
    """
    if coverage.touched_from is None or coverage.touched_until is None or coverage.live_fingerprint is None:
        return
    # Without a watermark yet nothing is sealed: then it is all that was ever touched.
    floor = coverage.watermark / 1000 if coverage.watermark else coverage.touched_from
    start = datetime.fromtimestamp(floor, UTC) - shape.lookahead
    # Every interval whose input was ever touched is known: it got rows, or a batch reached it.
    for label, before in list(intervals.items()):
        if parse_label(shape.grain, label).end <= start:
            continue
        writers = {**before.writers, coverage.live_fingerprint: coverage.live_version, **heir}
        intervals[label] = replace(before, writers=writers)


def _labels(grain: Grain, ranges: Iterable[tuple[int, int]]) -> Iterator[str]:
    for start, end in ranges:
        first, until = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        yield from (interval.label for interval in intervals_between(grain, first, until))


def _marked(before: IntervalCoverage, mark: Mark) -> tuple[Mark, ...]:
    # One mark a reason, with the newest version: marks stay few however long the stream runs.
    return (*(m for m in before.marks if (m.why, m.run) != (mark.why, mark.run)), mark)


def _of_both(choose: Callable[[int, int], int], a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else choose(a, b)


def sealed(coverage: Coverage, interval: Interval, shape: Shape) -> bool:
    """Whether the live stream can give this interval no more rows by itself.

    True for stateless pipelines and where no stream runs: then nothing is held back.
    """
    if not (coverage.live and coverage.stateful):
        return True
    return (coverage.watermark or 0) >= (interval.end + shape.lookahead).timestamp() * 1000
