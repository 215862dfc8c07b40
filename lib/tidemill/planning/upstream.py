"""How a change in an upstream table reaches the intervals below it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tidemill.intervals import Grain, parse_label
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import Commit, Foreign, LiveBatch, Swap, Undo
from tidemill.model import Pipeline


def changed_upstream(
    pipeline: Pipeline,
    coverage: Coverage,
    commits: Iterable[Commit],
    *,
    table: str,
    grain: Grain,
    pins: Mapping[str, int | None],
    appends: bool,
) -> dict[str, str]:
    """Intervals of ``pipeline`` made dirty by commits of an upstream table that replaced rows, with the reason.

    A stream of appends does not see a replacement. ``pins``: for each known interval the upstream version
    that its rows were made from, None when unknown; a later replacement makes it dirty. ``appends``: so does
    a later append, since no stream takes it in.
    """
    dirty: dict[str, str] = {}
    for commit in commits:
        labels, why = _touched(commit, appends=appends)
        if why is None:
            continue
        if labels is None:
            reached = tuple(coverage.intervals)
        else:
            spans = [parse_label(grain, label) for label in labels]
            reached = tuple(i.label for s in spans for i in pipeline.intervals_reading(s.start, s.end))
        for label in reached:
            seen = pins.get(label)
            if seen is None or seen < commit.version:
                dirty[label] = f"{table} {why} at version {commit.version}"
    return dirty


def _touched(commit: Commit, *, appends: bool) -> tuple[Iterable[str] | None, str | None]:
    match commit.fact:
        case LiveBatch(added=added) if appends and added:
            return tuple(added), "has new rows"
        case Swap(changed=True, intervals=intervals):
            changed = [label for label, each in intervals.items() if each.added or each.removed]
            return changed, "was backfilled" if changed else None
        case Undo(intervals=intervals):
            return tuple(intervals), "had a backfill undone"
        case LiveBatch(removed=removed) if removed:
            return tuple(removed), "was updated"
        case Foreign(operation=operation, intervals=intervals, replaced=replaced) if replaced or appends:
            return intervals, f"was changed by {operation}"
        case _:
            return (), None
