"""The gate: what a staged chunk must be before it is swapped in."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.errors import QualityError
from tidemill.execution.rules import refusals
from tidemill.execution.runs import Manifest
from tidemill.model import Pipeline


def check_gate(pipeline: Pipeline, manifest: Manifest) -> None:
    """Raise :class:`QualityError` with each expectation that fails and is not met, and each interval that changes more
    than the gate allows.

    An open interval may change as it likes: it is not all there yet.
    """
    problems = refusals(pipeline, manifest.verdicts)
    changes = [] if manifest.provisional else list(_changes(pipeline, manifest))
    problems += [f"{label}: {problem}" for label, problem in changes]
    if problems:
        raise QualityError(
            f"{pipeline.name}: the gate refused run {manifest.run}, chunk {manifest.chunk + 1}: "
            + "; ".join(problems),
            next_step=f"look at it: tidemill diff {manifest.run}; if it is right: "
            f"tidemill publish {manifest.run} --force; nothing was published",
            run=manifest.run,
            intervals=[label for label, _ in changes],
        )


def _changes(pipeline: Pipeline, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What of each interval changes more than it may. Rows vanish when their key does; without a key, when an interval
    has fewer rows than before.
    """
    gate = pipeline.gate
    for label, each in manifest.results.items():
        before = each.rows - each.added + each.removed
        if before < gate.min_rows:
            continue
        if pipeline.table.key:
            vanish = each.removed - manifest.changed.get(label, 0)
            appear = each.added - manifest.changed.get(label, 0)
        else:
            vanish, appear = max(0, before - each.rows), max(0, each.rows - before)
        if gate.max_removed is not None and vanish > gate.max_removed * before:
            yield label, f"{vanish} of {before} rows would vanish (limit {gate.max_removed:.0%})"
        if gate.max_added is not None and appear > gate.max_added * before:
            yield label, f"{appear} rows would appear beside {before} (limit {gate.max_added:.0%})"
