"""What a run does or would do, interval by interval: one shape for terminals, notebooks and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidemill.execution.backfill import Done
    from tidemill.execution.runs import Manifest


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One interval of a run. ``changed`` counts rows that stand on both sides of a key; 0 without a key."""

    chunk: int
    interval: str
    rows: int
    added: int
    removed: int
    changed: int
    outcome: str


def rows_of(manifest: Manifest, outcome: str) -> Iterator[IntervalRow]:
    """The intervals of a staged chunk; one whose rows are the table's is ``equal`` whatever became of the chunk."""
    for label in manifest.labels:
        each = manifest.results[label]
        changed = manifest.changed.get(label, 0)
        yield IntervalRow(
            manifest.chunk + 1,
            label,
            each.rows,
            each.added - changed,
            each.removed - changed,
            changed,
            outcome if each.added or each.removed else "equal",
        )


def rows_of_done(done: Done) -> list[IntervalRow]:
    """The intervals of every chunk that a backfill got to."""
    return [
        row
        for chunk in done.chunks
        if chunk.manifest is not None
        for row in rows_of(chunk.manifest, chunk.outcome)
    ]


def unmet(manifests: Iterable[Manifest]) -> list[str]:
    """Every expectation that a chunk did not meet, a line each."""
    return [
        f"chunk {manifest.chunk + 1}, {verdict.whose}: {result.text}"
        for manifest in manifests
        for verdict in manifest.verdicts
        for result in verdict.results
        if not result.met
    ]
