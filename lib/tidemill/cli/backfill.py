"""``backfill``: recompute intervals and swap them in, after a look at the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.agreement import DryRun, Yes, ask, must_ask
from tidemill.cli.options import (
    AsJson,
    Dirty,
    EnvName,
    Force,
    From,
    IncludeOpen,
    Missing,
    NewestFirst,
    ProjectDir,
    Stale,
    TakeOver,
    To,
    Why,
)
from tidemill.cli.outcomes import done_as_json, unseen
from tidemill.cli.output import report
from tidemill.cli.selectors import request_of
from tidemill.cli.shell import Shell
from tidemill.display import words
from tidemill.display.changes import rows_of_done, unmet
from tidemill.display.runs import begun_anew, how_far
from tidemill.errors import CommitConflict, LeaseHeld, PlanError, QualityError, SourceError, TidemillError
from tidemill.execution.runs import list_runs
from tidemill.intervals import parse_duration
from tidemill.model import Pipeline
from tidemill.planning.gates import forced
from tidemill.planning.plan import Plan, explain, to_json
from tidemill.planning.selection import Request, check_selected

if TYPE_CHECKING:
    from tidemill.execution.backfill import Done

_RETRY_SECONDS = 1.0

_Name = Annotated[
    str | None,
    typer.Argument(metavar="PIPELINE", help="The pipeline; a plan file knows its own.", show_default=False),
]
_PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Carry out a plan that plan --out kept.", show_default=False),
]
_StageOnly = Annotated[
    bool, typer.Option("--stage-only", help="Compute and compare; publish later: publish RUN.")
]
_AtOnce = Annotated[
    int, typer.Option("--max-concurrent", metavar="N", min=1, help="Chunks computed at the same time.")
]
_Wait = Annotated[
    str, typer.Option("--wait", metavar="DURATION", help="Wait this long for another backfill to end: 10m.")
]


def backfill(
    context: typer.Context,
    *,
    pipeline: _Name = None,
    start: From = None,
    end: To = None,
    dirty: Dirty = False,
    stale: Stale = False,
    missing: Missing = False,
    include_open: IncludeOpen = False,
    newest_first: NewestFirst = False,
    plan_file: _PlanFile = None,
    stage_only: _StageOnly = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
    why: Why = None,
    take_over: TakeOver = False,
    max_concurrent: _AtOnce = 1,
    wait: _Wait = "0s",
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Recompute intervals with today's code and swap them in, beside the live stream.

    Each chunk is staged, compared with the table, judged by the gate, and published in one commit. On a terminal
    the plan is shown first; elsewhere --yes is needed. Exit code 1 when the gate refused.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    request = request_of(
        start=start,
        end=end,
        dirty=dirty,
        stale=stale,
        missing=missing,
        include_open=include_open,
        newest_first=newest_first,
    )
    patience = parse_duration(wait)
    # Said before a plan is looked at and agreed to.
    forced(force=force, why=why)
    work = _work(shell, pipeline, plan_file, request)
    if dry_run:
        found = _planned(shell, work, request)
        shell.output.show(to_json(found), *render.plan_lines(explain(found)))
        return
    if must_ask(shell, yes=yes):
        # What is shown is what runs; when the table moves meanwhile, the engine refuses the plan.
        work = _planned(shell, work, request)
        if not _agreed(shell, work):
            return
    done = _patiently(
        shell,
        work if isinstance(work, str) else work.pipeline,
        patience,
        lambda: shell.engine.backfill(
            work,
            None if isinstance(work, Plan) else request,
            stage_only=stage_only,
            force=force,
            why=why,
            take_over=take_over,
            max_concurrent=max_concurrent,
        ),
    )
    show_done(shell, done)


def _work(shell: Shell, pipeline: str | None, plan_file: Path | None, request: Request) -> str | Plan:
    if plan_file is None:
        if pipeline is None:
            raise PlanError(
                "say which pipeline",
                next_step=f"pipelines here: {', '.join(sorted(shell.engine.project.pipelines))}",
            )
        shell.engine.project.pipeline(pipeline)
        check_selected(pipeline, request)
        return pipeline
    if request.anything or request.newest_first:
        raise PlanError("a plan file says which intervals", next_step="leave the choice of intervals away")
    plan = shell.engine.load_plan(plan_file)
    if pipeline not in {None, plan.pipeline}:
        raise PlanError(
            f"{plan_file} is a plan for {plan.pipeline}, not for {pipeline}", next_step="name one of both"
        )
    return plan


def _planned(shell: Shell, work: str | Plan, request: Request) -> Plan:
    return work if isinstance(work, Plan) else shell.engine.plan(work, request)


def _agreed(shell: Shell, plan: Plan) -> bool:
    """Ask whether a plan is to be carried out; False where there is nothing in it. Ends the command for a no."""
    lines = render.plan_lines(explain(plan))
    if plan.chunks:
        ask(shell, *lines)
    else:
        shell.output.note(*lines)
    return bool(plan.chunks)


def _patiently(shell: Shell, pipeline: str, patience: timedelta, attempt: Callable[[], Done]) -> Done:
    """Try until the lease is free or patience ends."""
    end = shell.engine.clock.now() + patience
    while True:
        try:
            with resumable(shell, pipeline), shell.output.working("starting"):
                return attempt()
        except LeaseHeld as error:
            # A lease that was lost in the middle of the work names no holder to wait for.
            if "holder" not in error.params or shell.engine.clock.now() >= end:
                raise
            shell.output.say(f"waiting: {error.message}")
            shell.hands.pause(_RETRY_SECONDS)


@contextmanager
def resumable(shell: Shell, pipeline: str) -> Iterator[None]:
    """When the work ends in the middle, say which run was begun: what it staged and published is not lost."""
    state = shell.engine.project.pipeline(pipeline).table.state_path
    before = set(list_runs(state))
    try:
        yield
    except (CommitConflict, SourceError, KeyboardInterrupt) as error:
        for run in sorted(set(list_runs(state)) - before):
            shell.output.note(Text(f"run {run} is not finished; carry on: tidemill resume {run}"))
            if isinstance(error, TidemillError):
                error.params["run"] = run
        raise


def show_done(shell: Shell, done: Done) -> None:
    """Print what a run did. Ends the process with 1 when a gate refused it."""
    pipeline = shell.engine.project.pipeline(done.pipeline)
    shell.output.show(done_as_json(done, pipeline), *done_parts(done, pipeline))
    if done.refused is not None:
        show_refusal(shell, done.refused)


def show_refusal(shell: Shell, refused: QualityError) -> None:
    """Say why a gate refused, and end the process with 1."""
    if not shell.output.as_json:
        report(refused, as_json=False)
    raise typer.Exit(refused.exit_code)


def done_parts(done: Done, pipeline: Pipeline) -> list[RenderableType]:
    """What a run did, for a person."""
    rows = rows_of_done(done)
    outcomes = {chunk.outcome for chunk in done.chunks}
    if not done.chunks and done.refused is None:
        return [Text(f"{done.pipeline}: nothing to do")]
    parts: list[RenderableType] = [Text.assemble((done.pipeline, "bold"), f"  run {done.run}")]
    if done.quarantined:
        bad = words.count(done.quarantined, "row")
        parts += render.lines([f"  {bad} of the input cannot be taken in; they are in the quarantine"])
    aside = sum(
        c.manifest.aside.rows for c in done.chunks if c.manifest is not None and c.manifest.aside is not None
    )
    if aside:
        parts += render.lines([f"  rules set {words.count(aside, 'row')} of these intervals aside"])
    if rows:
        parts.append(render.indented(render.change_table(rows)))
    parts += render.lines(f"  {line}" for line in how_far(done))
    manifests = [chunk.manifest for chunk in done.chunks if chunk.manifest is not None]
    parts += render.not_met(unmet(manifests))
    parts += render.not_judged(unseen(pipeline, manifests))
    forced = [str(chunk.chunk + 1) for chunk in done.chunks if chunk.forced is not None]
    if forced:
        parts += render.lines([f"  forced past the gate, as the commit says: chunk {', '.join(forced)}"])
    if "staged" in outcomes:
        parts += render.lines([f"  nothing is published yet; look: tidemill diff {done.run}"])
        parts += render.lines([f"  publish it: tidemill publish {done.run}"])
    elif begun_anew(done) is not None:
        parts += render.lines([f"  go on: tidemill run {done.pipeline}"])
    elif any(chunk.erased for chunk in done.chunks):
        parts += render.lines(
            ["  there is no way back: what it replaced may hold fields of an erased person"]
        )
    elif "swapped" in outcomes:
        parts += render.lines([f"  take it back: tidemill undo {done.run}"])
    return parts
