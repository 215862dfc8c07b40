"""What a run did or would do, interval by interval: one shape for tables and for JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tidemill.execution.limits import not_judged
from tidemill.model import Pipeline

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


def done_as_json(done: Done, pipeline: Pipeline) -> dict[str, Any]:
    """What a backfill did, as plain values; without the lists of files."""
    rows = rows_of_done(done)
    manifests = [chunk.manifest for chunk in done.chunks if chunk.manifest is not None]
    return {
        "run": done.run,
        "pipeline": done.pipeline,
        "chunks": [
            {
                "chunk": chunk.chunk + 1,
                "outcome": chunk.outcome,
                "retries": chunk.retries,
                "set_aside": chunk.manifest.aside.rows if chunk.manifest and chunk.manifest.aside else 0,
                "forced": chunk.forced,
            }
            for chunk in done.chunks
        ],
        "intervals": rows_as_json(rows),
        "quarantined": done.quarantined,
        "verdicts": [verdicts_as_json(manifest) for manifest in manifests],
        "not_judged": unseen(pipeline, manifests),
        "refused": done.refused.as_json() if done.refused else None,
    }


def verdicts_as_json(manifest: Manifest) -> dict[str, Any]:
    """What the pipeline's suites found in a chunk, as plain values."""
    return {
        "chunk": manifest.chunk + 1,
        "suites": [
            {"of": each.of, "results": [asdict(result) for result in each.results]}
            for each in manifest.verdicts
        ],
    }


def unmet(manifests: Iterable[Manifest]) -> list[str]:
    """Every expectation that a chunk did not meet, a line each."""
    return [
        f"chunk {manifest.chunk + 1}, {verdict.whose}: {result.text}"
        for manifest in manifests
        for verdict in manifest.verdicts
        for result in verdict.results
        if not result.met
    ]


def unseen(pipeline: Pipeline, manifests: Iterable[Manifest]) -> list[str]:
    """What the gate could not judge of each chunk, a line each."""
    return [
        f"chunk {manifest.chunk + 1}: {line}"
        for manifest in manifests
        for line in not_judged(pipeline, manifest)
    ]


def sample_as_json(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A differing row as plain values: the row itself, where the engine keeps its text."""
    return {**sample, "row": row_fields(sample["row"])}


def row_fields(row: Any) -> dict[str, Any]:
    """The fields of a sample's row."""
    try:
        body = json.loads(row) if isinstance(row, str) else row
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"row": row}


def rows_as_json(rows: Sequence[IntervalRow]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [asdict(row) for row in rows]
