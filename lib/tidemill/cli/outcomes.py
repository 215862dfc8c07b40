"""What a run did or would do, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tidemill.display.changes import IntervalRow, rows_of_done
from tidemill.display.pairs import row_fields
from tidemill.display.runs import begun_anew
from tidemill.execution.limits import not_judged
from tidemill.model import Pipeline

if TYPE_CHECKING:
    from tidemill.execution.backfill import Done
    from tidemill.execution.runs import Manifest


def done_as_json(done: Done, pipeline: Pipeline) -> dict[str, Any]:
    """What a backfill did, as plain values; without the lists of files."""
    rows = rows_of_done(done)
    manifests = [chunk.manifest for chunk in done.chunks if chunk.manifest is not None]
    seed = begun_anew(done)
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
                "erased": list(chunk.erased),
            }
            for chunk in done.chunks
        ],
        "intervals": rows_as_json(rows),
        "converged": done.converged,
        "untouched": done.untouched,
        "astray": done.astray,
        "begun_anew": None if seed is None else {"after_batch": seed.batch, "reached": seed.reached},
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


def rows_as_json(rows: Sequence[IntervalRow]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [asdict(row) for row in rows]
