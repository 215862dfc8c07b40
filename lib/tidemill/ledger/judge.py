"""What may be said of each interval: today's code and what happened upstream, against what the ledger knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidemill.intervals import Interval, parse_label
from tidemill.ledger.coverage import BY_ANOTHER, OWED, Coverage, IntervalCoverage, Shape, sealed


class State(StrEnum):
    """What may be said of an interval; only ``clean`` promises the law.

    ``recorded``: of an event store, whose rows are facts: what was decided, by the code of then, in the order of arrival.
    """

    CLEAN = "clean"
    OPEN = "open"
    DIRTY = "dirty"
    STALE = "stale"
    MISSING = "missing"
    EXPIRED = "expired"
    RECORDED = "recorded"


SETTLED = frozenset({State.CLEAN, State.RECORDED})
"""States that nothing is to be done about."""
NOT_CLEAN = frozenset({State.DIRTY, State.STALE, State.MISSING})
"""States that a backfill mends."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An interval with its state and the reasons for it, as status and plans show it.

    ``inherited``: it would be clean, had those before it been.
    """

    interval: Interval
    state: State
    why: str
    detail: IntervalCoverage
    inherited: bool = False


def judge(
    coverage: Coverage,
    shape: Shape,
    fingerprint: str,
    *,
    upstream: Mapping[str, str] | None = None,
) -> tuple[Judged, ...]:
    """Every interval the log knows, judged against today's fingerprint, in time order.

    ``upstream``: intervals that a change in an upstream table made dirty, with the reason.
    """
    upstream = {} if shape.recorded else upstream or {}
    known = {**{label: IntervalCoverage() for label in upstream}, **coverage.intervals}
    judged = [
        _judge_one(coverage, shape, fingerprint, label, detail, upstream.get(label))
        for label, detail in known.items()
    ]
    return tuple(sorted(judged, key=lambda each: each.interval))


def _judge_one(
    coverage: Coverage,
    shape: Shape,
    fingerprint: str,
    label: str,
    detail: IntervalCoverage,
    upstream: str | None,
) -> Judged:
    interval = parse_label(shape.grain, label)
    if shape.recorded:
        foreign = "; ".join(mark.why for mark in detail.marks if mark.why.startswith(BY_ANOTHER))
        return Judged(interval, State.DIRTY if foreign else State.RECORDED, foreign, detail)
    if coverage.kept is not None and interval.start.timestamp() < coverage.kept.since:
        return Judged(interval, State.EXPIRED, "rows that came after retain took the others", detail)
    reasons = [mark.why for mark in detail.marks] + ([upstream] if upstream else [])
    if not sealed(coverage, interval, shape):
        why = "provisional rows" if detail.provisional else "the stream may still add rows"
        return Judged(interval, State.OPEN, "; ".join([why, *reasons]), detail)
    if detail.provisional:
        reasons.append("provisional rows")
    if any(mark.why == OWED for mark in detail.marks):
        return Judged(interval, State.MISSING, "; ".join(reasons), detail)
    if reasons:
        return Judged(interval, State.DIRTY, "; ".join(reasons), detail)
    others = sorted(key for key in detail.writers if key != fingerprint)
    if others:
        return Judged(interval, State.STALE, f"written by {', '.join(o[:8] for o in others)}", detail)
    return Judged(interval, State.CLEAN, "", detail)
