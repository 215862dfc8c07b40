"""A stream's edge: what its state holds, and whose doing that is where code changes, a restart is missed, or input is. Pure.

What a stream holds at its watermark W is of rows up to W, as far as intervals after it look back, and of rows after W that it has
read. So an interval depends on it that is not sealed, and whose input range has W or a row after it; whether the ledger has
heard of it or not, as code of before may have looked less far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tidemill.intervals import intervals_reading, parse_label
from tidemill.ledger import kept
from tidemill.ledger.beside import joined
from tidemill.ledger.carried import Lived, Seed
from tidemill.ledger.covered import Coverage, IntervalCoverage, Mark, Shape, Stood, marked
from tidemill.ledger.facts import LiveBatch, Swap

LOOKS_FURTHER = "the code looks further than that which has read what there is"
NOT_PLANTED = "its stream went on without what it was to begin anew with; restart it again"
_MOST = 64

Ranges = tuple[tuple[int, int], ...]
"""``[from, to)`` in epoch seconds, in order, apart from each other."""


def ahead(known: Ranges, fresh: Iterable[tuple[int, int]], watermark: int | None) -> Ranges:
    """The event times after the watermark (epoch milliseconds) that a stream has read, with those of one more batch.

    They stay few: what lies nearest is joined where they are more than 64.

    >>> ahead(((0, 600), (6000, 6600)), [(600, 1200), (9000, 9600)], 300_000)
    ((300, 1200), (6000, 6600), (9000, 9600))
    """
    floor = (watermark or 0) // 1000
    found: list[tuple[int, int]] = []
    for start, end in sorted((*known, *fresh)):
        if watermark and end <= floor:
            continue
        begin = max(start, floor) if watermark else start
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    while len(found) > _MOST:
        gaps = [later[0] - one[1] for one, later in pairwise(found)]
        i = gaps.index(min(gaps))
        found[i : i + 2] = [(found[i][0], found[i + 1][1])]
    return tuple(found)


def of_its_state(coverage: Coverage, shape: Shape) -> Iterator[str]:
    """The intervals that depend on what the stream holds, by today's shape, known or not; some come twice.

    Those that the ledger knows and that are not sealed are among them: they may have been reached from further away.
    """
    floor = coverage.watermark / 1000 if coverage.watermark else coverage.touched_from
    if floor is None:
        return
    sealed_until = datetime.fromtimestamp(floor, UTC) - shape.lookahead
    for label in coverage.intervals:
        if parse_label(shape.grain, label).end > sealed_until:
            yield label
    at = [(_moment(start), _moment(end)) for start, end in coverage.ahead]
    if coverage.watermark:
        here = datetime.fromtimestamp(floor, UTC)
        at.append((here, here + datetime.resolution))
    yield from _reading(at, shape)


def _reading(ranges: Iterable[tuple[datetime, datetime]], shape: Shape) -> Iterator[str]:
    for start, end in ranges:
        with suppress(OverflowError):  # there is no interval after the end of time
            found = intervals_reading(
                shape.grain, start, end, lookback=shape.lookback, lookahead=shape.lookahead
            )
            for interval in found:
                yield interval.label


def further(fact: LiveBatch, shape: Shape) -> frozenset[str]:
    """The intervals that a batch's input belongs to by today's shape, where that looks further than the batch's did.

    One that does not say how far it looked is taken to have looked nowhere else. Nor does it tell of event times that rules left
    out: so each interval that it reached is taken for one of those.
    """
    if shape.recorded or not _looks_further(shape, fact.reach or (0, 0)):
        return frozenset()
    ranges = [(_moment(start), _moment(end)) for start, end in (*fact.touched, *fact.ruled_out)]
    if fact.reach is None:
        own = (parse_label(shape.grain, label) for label in {*fact.reached, *fact.added})
        ranges += [(each.start, each.end) for each in own]
    return frozenset(_reading(ranges, shape))


def widened(coverage: Coverage, shape: Shape, then: tuple[int, int]) -> Coverage:
    """Coverage that was folded by another reach, ``then``, of commits that are gone: what today's reaches besides is dirty.

    Every row's own interval is known. Those that were only reached are taken for such, too: that may say too much, and a backfill
    clears it.
    """
    if shape.recorded or not _looks_further(shape, then):
        return coverage
    spans: list[tuple[datetime, datetime]] = []
    for each in sorted(parse_label(shape.grain, label) for label in coverage.intervals):
        start = spans.pop()[0] if spans and spans[-1][1] >= each.start else each.start
        spans.append((start, each.end))
    mark = Mark(LOOKS_FURTHER, coverage.version)
    new = {label: IntervalCoverage(marks=(mark,)) for label in _reading(spans, shape)}
    return replace(coverage, intervals={**new, **coverage.intervals})


def _looks_further(shape: Shape, then: tuple[int, int]) -> bool:
    return any(now > before for now, before in zip(reach(shape), then, strict=True))


def reach(shape: Shape) -> tuple[int, int]:
    """How far an interval's input lies outside of it, before and after, in milliseconds."""
    tick = timedelta(milliseconds=1)
    return shape.lookback // tick, shape.lookahead // tick


def inherited(
    coverage: Coverage, shape: Shape, intervals: dict[str, IntervalCoverage], heir: Mapping[str, int]
) -> None:
    """Other code goes on with the state: what depends on it was made by the former code, whoever publishes its rows in the end.

    The ``heir`` may publish none of them: rows that it leaves out are its doing, too.
    """
    if coverage.live_fingerprint is None or shape.recorded:
        return
    for label in _reaching(coverage, shape, intervals):
        before = intervals.get(label, IntervalCoverage())
        writers = {**before.writers, coverage.live_fingerprint: coverage.live_version, **heir}
        intervals[label] = replace(before, writers=writers)


def begun_anew(
    coverage: Coverage, version: int, fact: Swap, seed: Seed, intervals: dict[str, IntervalCoverage]
) -> Coverage:
    """The stream's own states are those that the seed says, made by this code; they go on from there.

    What they were stays known until a batch has begun with the seed; of several restarts in a row, before each of them.
    """
    none = IntervalCoverage(beside=joined((), {}, fact.beside, version))
    before = intervals.get(seed.last, none) if seed.last else none
    planted = coverage.seed.name if coverage.stood and coverage.seed is not None else ""
    stood = Stood(
        planted, coverage.live_last, seed.last, before.lived, coverage.live_fingerprint, coverage.astray
    )
    if seed.last:
        made = before.lived.made if before.lived is not None else ""
        intervals[seed.last] = replace(before, lived=Lived(seed.state, made))
    return replace(
        coverage,
        seed=seed,
        stood=(*coverage.stood, stood),
        live_last=seed.last,
        live_fingerprint=fact.fingerprint,
        astray=None,
    )


def planted(
    coverage: Coverage,
    version: int,
    fact: LiveBatch,
    shape: Shape,
    intervals: dict[str, IntervalCoverage],
) -> Coverage:
    """The first batch after a restart's commit: with its seed; or without, as another driver had begun it before that commit.

    Then the stream's states are what they were, or those of a seed before, and all that depends on them is dirty. A batch of
    before this was noted is taken to have begun with the seed.
    """
    stood, seed = coverage.stood, coverage.seed
    if not stood or seed is None:
        return coverage
    coverage = replace(coverage, stood=())
    if fact.planted in (None, seed.name):
        return coverage
    for each in reversed(stood):  # the last restart is taken back first
        if each.label in intervals:
            intervals[each.label] = replace(intervals[each.label], lived=each.lived)
        coverage = replace(coverage, live_last=each.last, live_fingerprint=each.code, astray=each.astray)
        if each.planted == fact.planted:
            break
    for label in _reaching(coverage, shape, intervals):
        before = intervals.get(label, IntervalCoverage())
        intervals[label] = replace(before, marks=marked(before, Mark(NOT_PLANTED, version)))
    return coverage


def broken(
    coverage: Coverage,
    version: int,
    fact: LiveBatch,
    shape: Shape,
    intervals: dict[str, IntervalCoverage],
) -> str | None:
    """Why a batch does not go on where the one before it (``coverage``'s) had ended; None where it does.

    What was read by none, or twice, may be of any time: so every interval is dirty that the ledger knows by then, those of the
    batch itself among them, and what depends on the stream's state. One that lies after all of these is taken to be out of
    reach; one in between, of which the ledger has never heard, stays unheard of. (Of a fold without a horizon neither is, see
    :mod:`.chain`.) A backfill pinned at this batch or later reads what was missed, and clears the mark, as that of late rows.
    """
    why = kept.break_between(coverage.source_end, fact)
    if why is not None and not shape.recorded:
        for label in {*intervals, *_reaching(coverage, shape, intervals)}:
            before = intervals.get(label, IntervalCoverage())
            intervals[label] = replace(before, marks=marked(before, Mark(why, version)))
    return why


def _reaching(coverage: Coverage, shape: Shape, intervals: Mapping[str, IntervalCoverage]) -> Sequence[str]:
    # A coverage that is being folded has its intervals beside it.
    return sorted(set(of_its_state(replace(coverage, intervals=intervals), shape)))


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
