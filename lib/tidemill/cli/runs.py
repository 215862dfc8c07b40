"""``diff``, ``publish``, ``undo``, ``resume``: the steps of a backfill by hand, for one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.backfill import show_done
from tidemill.cli.options import AsJson, EnvName, Force, ProjectDir, RunName, Why
from tidemill.cli.outcomes import (
    IntervalRow,
    rows_as_json,
    rows_of,
    sample_as_json,
    unmet,
    unseen,
    verdicts_as_json,
)
from tidemill.cli.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidemill.execution.runs import Manifest
    from tidemill.view import View


def diff(
    context: typer.Context,
    *,
    run: RunName,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run staged against what the table held: rows added, removed and changed, with samples."""
    shell = Shell.of(context, project, env, as_json=as_json)
    manifests = shell.engine.diff(run)
    view = shell.engine.view(shell.engine.find_run(run))
    rows = [row for manifest in manifests for row in rows_of(manifest, _outcome(manifest, view))]
    samples = [sample_as_json(sample) for manifest in manifests for sample in manifest.samples]
    body = {
        "run": run,
        "pipeline": view.pipeline.name,
        "intervals": rows_as_json(rows),
        "samples": samples,
        "verdicts": [verdicts_as_json(manifest) for manifest in manifests],
        "not_judged": unseen(view.pipeline, manifests),
        "refused": next((manifest.refused for manifest in manifests if manifest.refused), None),
        "forced": _forced(run, manifests, view),
    }
    shell.output.show(body, *_diff_parts(run, view, rows, manifests))


def _outcome(manifest: Manifest, view: View) -> str:
    runs = {
        view.coverage.intervals[label].run for label in manifest.labels if label in view.coverage.intervals
    }
    if manifest.run in runs:
        return "published"
    return "refused" if manifest.refused else "staged"


def _forced(run: str, manifests: Sequence[Manifest], view: View) -> str | None:
    """Why the run was published past the gate, by what the table holds of it; None where it was not."""
    known = view.coverage.intervals
    labels = [label for manifest in manifests for label in manifest.labels if label in known]
    return next(
        (known[label].forced for label in labels if known[label].run == run and known[label].forced), None
    )


def _diff_parts(
    run: str, view: View, rows: Sequence[IntervalRow], manifests: Sequence[Manifest]
) -> list[RenderableType]:
    head = Text.assemble((view.pipeline.name, "bold"), f"  run {run}")
    if not rows:
        return [head, *render.lines([f"  nothing is staged yet; carry on: tidemill resume {run}"])]
    parts: list[RenderableType] = [head, render.indented(render.change_table(rows))]
    parts += render.not_met(unmet(manifests))
    parts += render.not_judged(unseen(view.pipeline, manifests))
    parts += render.lines([f"  {manifest.refused}" for manifest in manifests if manifest.refused])
    if forced := _forced(run, manifests, view):
        parts += render.lines([f"  forced past the gate: {forced}"])
    samples = [sample for manifest in manifests for sample in manifest.samples]
    if samples:
        parts += render.lines(["  some of the rows: + as staged, - as the table held them"])
        parts += render.samples(samples, view.pipeline.table.key)
    return parts


def publish(
    context: typer.Context,
    *,
    run: RunName,
    force: Force = False,
    why: Why = None,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Publish what a run staged, or publish again what was undone. Starts no JVM."""
    shell = Shell.of(context, project, env, as_json=as_json)
    with shell.output.working("publishing"):
        done = shell.engine.publish(run, force=force, why=why)
    show_done(shell, done)


def undo(
    context: typer.Context,
    *,
    run: RunName,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Take a run's swaps back; rows that came later stay. Starts no JVM."""
    shell = Shell.of(context, project, env, as_json=as_json)
    with shell.output.working("undoing"):
        labels = shell.engine.undo(run)
    if labels:
        parts = render.lines([f"took back: {', '.join(labels)}", f"publish it again: tidemill publish {run}"])
    else:
        parts = render.lines([f"run {run} has nothing published: nothing to take back"])
    shell.output.show({"run": run, "undone": list(labels)}, *parts)


def resume(
    context: typer.Context,
    *,
    run: RunName,
    force: Force = False,
    why: Why = None,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Carry on a backfill that was interrupted. Published chunks stay; the others are computed again."""
    shell = Shell.of(context, project, env, as_json=as_json)
    with shell.output.working("starting"):
        done = shell.engine.resume(run, force=force, why=why)
    show_done(shell, done)
