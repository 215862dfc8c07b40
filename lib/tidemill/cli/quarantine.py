"""``quarantine`` and ``release``: which rows were set aside, and why; and the way back for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.agreement import DryRun, Yes, ask, must_ask
from tidemill.cli.backfill import done_parts, show_refusal
from tidemill.cli.options import AsJson, EnvName, Force, PipelineName, ProjectDir, TakeOver, Why
from tidemill.cli.outcomes import done_as_json
from tidemill.cli.shell import Shell
from tidemill.display import words
from tidemill.display.quarantined import beside, dropped
from tidemill.planning.gates import forced
from tidemill.planning.plan import explain

if TYPE_CHECKING:
    from tidemill.execution.release import Released, Wanted
    from tidemill.model import Pipeline
    from tidemill.quarantined import Quarantined

_Reason = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="TEXT", help="Only rows with this in one of their reasons.", show_default=False
    ),
]
_Input = Annotated[
    str | None, typer.Option("--input", metavar="NAME", help="Only rows of this input.", show_default=False)
]
_Sample = Annotated[
    int, typer.Option("--sample", min=0, metavar="N", help="How many rows to show, newest first.")
]


def quarantine(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    reason: _Reason = None,
    input_name: _Input = None,
    sample: _Sample = 10,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """List the rows that were set aside, by reason, with a sample of them as they came. Starts no JVM.

    They are a Delta table beside the pipeline's own. When a rule or the code was mended: tidemill release.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    found = shell.engine.quarantined(pipeline, reason=reason, of_input=input_name, most=sample)
    shell.output.show(found.as_json(), *_parts(found))


def _parts(found: Quarantined) -> list[RenderableType]:
    head = Text.assemble((found.pipeline, "bold"), f"  {words.count(found.rows, 'row')} set aside")
    if not found.rows:
        return [head]
    reasons = render.table("rows", "input", "reason", right=["rows"])
    for each in found.reasons:
        reasons.add_row(f"{each.rows:,}", words.whose(each.input), each.reason)
    parts: list[RenderableType] = [head, render.indented(reasons)]
    for row in found.sample:
        file = f"  {Path(row.file).name}" if row.file else ""
        parts += [
            Text(),
            render.indented(
                Text(f"{words.moment(row.at)[:19]}  {words.whose(row.input)}{file}", style="dim")
            ),
            render.indented(Text(row.record or "")),
            *(render.indented(Text(f"  {reason}", style="yellow")) for reason in row.reasons),
        ]
    return [*parts, Text(), render.indented(Text(found.path, style="dim"))]


_Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="SQL",
        help="Only rows for which this holds: input, reasons, record, file, interval, batch, at.",
        show_default=False,
    ),
]


def release(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    where: _Where = None,
    reason: _Reason = None,
    input_name: _Input = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
    why: Why = None,
    take_over: TakeOver = False,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Send rows that were set aside through today's rules and code again.

    The intervals that they belong to are computed anew, as a backfill does it: what passes is in the table, once, and
    no longer in the quarantine; the rest stays there; a row that a rule drops is in neither. Rows of intervals that the
    stream is still filling wait until those are complete. On a terminal the plan is shown first; elsewhere --yes is needed.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    forced(force=force, why=why)
    with shell.output.working("looking"):
        wanted = shell.engine.releasable(pipeline, where=where, reason=reason, of_input=input_name)
    if dry_run or not wanted.rows:
        shell.output.show(wanted.as_json(), *_planned(wanted))
        return
    if must_ask(shell, yes=yes):
        ask(shell, *_planned(wanted))
    with shell.output.working("starting"):
        done = shell.engine.release(wanted, force=force, why=why, take_over=take_over)
    found = shell.engine.project.pipeline(pipeline)
    body = done.as_json() | ({"backfill": done_as_json(done.done, found)} if done.done else {})
    shell.output.show(body, *_released(done, found))
    if done.done is not None and done.done.refused is not None:
        show_refusal(shell, done.done.refused)


def _planned(wanted: Wanted) -> list[RenderableType]:
    name = wanted.plan.pipeline
    if not wanted.rows:
        return [Text(f"{name}: no row of the quarantine is meant; what there is: tidemill quarantine {name}")]
    parts: list[RenderableType] = [Text(f"{name}: {words.count(wanted.rows, 'row')} of the quarantine")]
    parts += render.lines([f"  {line}" for line in beside(wanted)])
    return [*parts, *render.plan_lines(explain(wanted.plan))]


def _released(done: Released, pipeline: Pipeline) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text.assemble((done.pipeline, "bold"), f"  {words.count(done.released, 'row')} released"),
        *render.lines([f"  {line}" for line in dropped(done.dropping) if done.released]),
        *render.lines([f"  {words.count(done.held, 'row')} still set aside"] if done.held else []),
        *render.lines([f"  not yet: {each.interval} ({each.why})" for each in done.left_out]),
    ]
    return [*parts, *(done_parts(done.done, pipeline) if done.done else [])]
