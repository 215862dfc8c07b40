"""What the log says of how whole a table is: whether its batches join, and what its retention has taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.ledger.facts import Expired, LiveBatch, Offsets

_Starts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left after intervals went by age or size.

    ``since``: where the first interval begins that is kept (epoch seconds). ``start``: by topic and partition, the offset
    from which on every record is there; of a partition that is not named nothing went. ``rows``: how many went in all.
    """

    since: int
    start: _Starts = field(default_factory=dict)
    rows: int = 0


def after(kept: Kept | None, fact: Expired) -> Kept:
    """What is left after one more removal.

    >>> one = after(None, Expired("p", 60, {"2024-05-01": 3}, {"t": {"0": 7}}))
    >>> after(one, Expired("p", 90, {"2024-05-02": 1}, {"t": {"0": 5, "1": 2}}))
    Kept(since=90, start={'t': {'0': 7, '1': 2}}, rows=4)
    """
    before = kept or Kept(fact.until)
    start = {topic: dict(parts) for topic, parts in before.start.items()}
    for topic, parts in fact.start.items():
        mine = start.setdefault(topic, {})
        for part, offset in parts.items():
            mine[part] = max(int(offset), mine.get(part, 0))
    return Kept(max(before.since, fact.until), start, before.rows + sum(fact.intervals.values()))


def break_between(end: Offsets | None, fact: LiveBatch) -> str | None:
    """How a batch does not go on where the one before it had ended; None when it does.

    ``end``: how far the batch before had read, None where this is the first.
    """
    for name, read in (end or {}).items():
        now, before = _offset(fact.source_start, name), _offset({name: read}, name)
        if name in fact.source_start and now != before:
            return f"batch {fact.batch} does not begin where the one before it ended"
    return None


def from_json(body: Mapping[str, Any] | None) -> Kept | None:
    """What an index holds of it."""
    return None if body is None else Kept(**body)


def _offset(ends: Offsets, name: str) -> Any:
    end = ends.get(name)
    return end.get("offset") if isinstance(end, Mapping) else None
