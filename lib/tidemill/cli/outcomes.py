"""What a run did or would do, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tidemill.display.changes import IntervalRow, rows_of_done
from tidemill.display.pairs import row_fields

if TYPE_CHECKING:
    from tidemill.execution.backfill import Done
    from tidemill.execution.runs import Manifest


def done_as_json(done: Done) -> dict[str, Any]:
    """What a backfill did, as plain values; without the lists of files."""
    rows = rows_of_done(done)
    return {
        "run": done.run,
        "pipeline": done.pipeline,
        "chunks": [
            {"chunk": chunk.chunk + 1, "outcome": chunk.outcome, "retries": chunk.retries}
            for chunk in done.chunks
        ],
        "intervals": rows_as_json(rows),
        "quarantined": done.quarantined,
        "verdicts": [verdicts_as_json(chunk.manifest) for chunk in done.chunks if chunk.manifest is not None],
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


def sample_as_json(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A differing row as plain values: the row itself, where the engine keeps its text."""
    return {**sample, "row": row_fields(sample["row"])}


def rows_as_json(rows: Sequence[IntervalRow]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [asdict(row) for row in rows]
