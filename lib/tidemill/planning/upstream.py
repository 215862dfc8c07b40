"""How a change in an upstream table reaches the intervals below it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tidemill.intervals import ALL_LABEL, Grain, parse_label
from tidemill.ledger.changes import EVERYWHERE, Change, Changes
from tidemill.ledger.coverage import Coverage
from tidemill.model import Pipeline


@dataclass(frozen=True, slots=True)
class Upstream:
    """Intervals that what happened to the inputs made dirty, with the reason; ``erased``: those of them that may hold something
    of an erased person who was taken out of an input; ``left``: those made of an input that may hold one still.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    erased: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()

    def joined(self, other: Upstream) -> Upstream:
        """Both; the other's reasons before this one's."""
        return Upstream({**self.reasons, **other.reasons}, self.erased | other.erased, self.left | other.left)


def changed_upstream(
    pipeline: Pipeline,
    coverage: Coverage,
    changes: Changes,
    *,
    table: str,
    grain: Grain,
    pins: Mapping[str, int | None],
    floor: int,
    appends: bool,
) -> dict[str, str]:
    """Intervals of ``pipeline`` made dirty by changes of an upstream table that replaced rows, with the reason.

    A stream of appends does not see a replacement. ``pins``: for each known interval the upstream version
    that its rows were made from, None when unknown; a later replacement makes it dirty. ``floor``: the version that
    counts for all other intervals. ``appends``: so does a later append, since no stream takes it in.
    """
    last: dict[str, Change] = {
        label: Change(changes.since, "no longer says what happened")
        for label in coverage.intervals
        if changes.since > (_or(pins.get(label), floor))
    }
    for label, change in (*changes.replaced.items(), *(changes.appended.items() if appends else ())):
        for below in made_of(pipeline, coverage, label, grain):
            known = last.get(below)
            if change.version > _or(pins.get(below), floor) and (
                known is None or known.version < change.version
            ):
                last[below] = change
    return {label: f"{table} {change.why} at version {change.version}" for label, change in last.items()}


def _or(pin: int | None, floor: int) -> int:
    return floor if pin is None else pin


def made_of(pipeline: Pipeline, coverage: Coverage, label: str, grain: Grain) -> Iterable[str]:
    """The intervals of ``pipeline`` that are made of an interval of an upstream table."""
    if pipeline.grain is Grain.ALL:
        return (ALL_LABEL,)
    # An upstream table that is one interval does not say where in it rows changed.
    if label == EVERYWHERE or grain is Grain.ALL:
        return tuple(coverage.intervals)
    span = parse_label(grain, label)
    return (interval.label for interval in pipeline.intervals_reading(span.start, span.end))
