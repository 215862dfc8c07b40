"""``diff``, ``publish``, ``undo``, ``resume``: the steps of a backfill by hand, for one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.backfill import show_done
from tidemill.cli.options import AsJson, EnvName, Force, ProjectDir, RunName, Why
from tidemill.cli.outcomes import rows_as_json, sample_as_json, unseen, verdicts_as_json
from tidemill.cli.rows import Rows
from tidemill.cli.shell import Shell
from tidemill.display.changes import unmet
from tidemill.display.pairs import paired

if TYPE_CHECKING:
    from tidemill.execution.diff import Diff
    from tidemill.model import Pipeline


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
    found = shell.engine.diff(run)
    pipeline = shell.engine.project.pipeline(found.pipeline)
    body = {
        "run": run,
        "pipeline": found.pipeline,
        "intervals": rows_as_json(found.rows),
        "samples": [sample_as_json(sample) for manifest in found for sample in manifest.samples],
        "verdicts": [verdicts_as_json(manifest) for manifest in found],
        "not_judged": unseen(pipeline, found),
        "refused": next((manifest.refused for manifest in found if manifest.refused), None),
        "forced": found.forced,
    }
    shell.output.show(body, *_diff_parts(found, pipeline))


def _diff_parts(found: Diff, pipeline: Pipeline) -> list[RenderableType]:
    head = Text.assemble((found.pipeline, "bold"), f"  run {found.run}")
    if not found:
        return [head, *render.lines([f"  nothing is staged yet; carry on: tidemill resume {found.run}"])]
    parts: list[RenderableType] = [head, render.indented(render.change_table(found.rows))]
    parts += render.not_met(unmet(found))
    parts += render.not_judged(unseen(pipeline, found))
    parts += render.lines([f"  {manifest.refused}" for manifest in found if manifest.refused])
    if found.forced:
        parts += render.lines([f"  forced past the gate: {found.forced}"])
    samples = [sample for manifest in found for sample in manifest.samples]
    if samples:
        parts += render.lines(["  some of the rows: + as staged, - as the table held them"])
        parts += [render.indented(Rows(paired(samples, found.key), found.key), 4)]
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
