"""The gate: what a staged chunk must be before it is swapped in."""

from __future__ import annotations

from dataclasses import replace

from tidemill.errors import QualityError
from tidemill.execution.limits import beyond
from tidemill.execution.rules import refusals
from tidemill.execution.runs import Manifest
from tidemill.model import Pipeline
from tidemill.sinks.nulls import nulls_by_label
from tidemill.sinks.tables import Table

_MOST = 20
"""Reasons in a refusal: more would hide it."""


def with_nulls(pipeline: Pipeline, table: Table, manifest: Manifest) -> Manifest:
    """The manifest with the nulls of each interval that the gate compares; as it is where it compares none.

    Reads the statistics of the files that go and come, and starts no JVM: what was found equal is not among them.
    """
    if not pipeline.gate.watches_nulls or manifest.nulls:
        return manifest
    stands = nulls_by_label(table, manifest.replaced)
    staged = nulls_by_label(table, manifest.staged)
    return replace(
        manifest,
        nulls={
            label: {column: (count, staged[label][column]) for column, count in stands[label].items()}
            for label in stands.keys() & staged.keys()
        },
    )


def let_pass(pipeline: Pipeline, manifest: Manifest, forced: str | None) -> str | None:
    """Whether a chunk may be published: None where the gate lets it pass, ``forced`` where that overrides a refusal.

    Raises :class:`QualityError` where the gate refuses and ``forced`` says no reason to publish all the same.
    """
    try:
        check_gate(pipeline, manifest)
    except QualityError:
        if forced is None:
            raise
        return forced
    return None


def check_gate(pipeline: Pipeline, manifest: Manifest) -> None:
    """Raise :class:`QualityError` with each expectation that fails and is not met, and each interval that changes more
    than the gate allows.

    An open interval may change as it likes, be it shown or begun anew: it is not all there yet.
    """
    problems = refusals(pipeline, manifest.verdicts)
    changes = [] if manifest.provisional or manifest.seed is not None else list(beyond(pipeline, manifest))
    problems += [f"{label}: {problem}" for label, problem in changes]
    if problems:
        if len(problems) > _MOST:
            problems[_MOST:] = [f"and {len(problems) - _MOST} more"]
        raise QualityError(
            f"{pipeline.name}: the gate refused run {manifest.run}, chunk {manifest.chunk + 1}: "
            + "; ".join(problems),
            next_step=f"look at it: tidemill diff {manifest.run}; if it is right: "
            f'tidemill publish {manifest.run} --force --why "..."; nothing was published',
            run=manifest.run,
            intervals=list(dict.fromkeys(label for label, _ in changes)),
        )
