"""``bootstrap``: fill a new pipeline's table with history by backfill, so that its stream goes on from where that ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.agreement import DryRun
from tidemill.cli.backfill import done_parts, show_refusal
from tidemill.cli.options import AsJson, EnvName, NewestFirst, PipelineName, ProjectDir, TakeOver
from tidemill.cli.outcomes import done_as_json
from tidemill.cli.shell import Shell
from tidemill.display import words
from tidemill.intervals import labels

if TYPE_CHECKING:
    from tidemill.execution.bootstrap import Bootstrapped, Foreseen

_Chunk = Annotated[
    int | None,
    typer.Option(
        "--chunk",
        metavar="N",
        min=1,
        help="Intervals in one commit; else as many as hold some twenty million events.",
        show_default=False,
    ),
]


def bootstrap(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    newest_first: NewestFirst = False,
    chunk: _Chunk = None,
    dry_run: DryRun = False,
    take_over: TakeOver = False,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Fill a new pipeline's table with what its sources hold, before its live stream begins.

    History is computed by backfill, in large chunks; `tidemill run` then goes on from exactly where it ended.
    Interrupted, the same command goes on. Exit code 1 when the gate refused a chunk.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    shell.engine.project.pipeline(pipeline)
    if dry_run:
        with shell.output.working("starting"):
            foreseen = shell.engine.foresee_bootstrap(pipeline, newest_first=newest_first, chunk=chunk)
        shell.output.show(_foreseen_as_json(foreseen), *render.plan_lines(_foreseen_lines(foreseen)))
        return
    with shell.output.working("starting"):
        found = shell.engine.bootstrap(pipeline, newest_first=newest_first, chunk=chunk, take_over=take_over)
    shell.output.show(_as_json(shell, found), *_parts(shell, found))
    if found.done is not None and found.done.refused is not None:
        show_refusal(shell, found.done.refused)


def _foreseen_as_json(found: Foreseen) -> dict[str, Any]:
    return {
        "pipeline": found.pipeline,
        "pinned": found.pinned,
        "inputs": dict(found.ends),
        "rows": found.rows,
        "bad": found.bad,
        "chunks": [[interval.label for interval in chunk] for chunk in found.chunks],
        "streamed": found.streamed,
        "in_one_batch": found.in_one_batch,
    }


def _foreseen_lines(found: Foreseen) -> list[str]:
    intervals = sum(map(len, found.chunks))
    title = f"{found.pipeline}: {words.count(intervals, 'interval')} of history"
    if found.in_one_batch:
        title = f"{found.pipeline}: the stream's first batch takes all there is"
    elif not intervals:
        title = f"{found.pipeline}: no history to compute"
    lines = [title]
    until = "the stream has read up to here" if found.pinned else "history ends here, as it is now"
    lines += [f"  {name}: {end}  ({until})" for name, end in found.ends.items()]
    lines += [f"  {words.count(found.rows, 'event')}, {found.bad:,} of them are left out"]
    for number, chunk in enumerate(found.chunks):
        lines += [f"  chunk {number + 1}", f"    stage {labels(chunk, 8)}, swap in one commit"]
    after = f"; intervals from {found.streamed[:13]} on are its own" if found.streamed else ""
    return [*lines, f"  then: tidemill run {found.pipeline} goes on from there{after}"]


def _as_json(shell: Shell, found: Bootstrapped) -> dict[str, Any]:
    pipeline = shell.engine.project.pipeline(found.pipeline)
    done = done_as_json(found.done, pipeline) if found.done is not None else None
    return {"pipeline": found.pipeline, "inputs": dict(found.ends), "backfill": done}


def _parts(shell: Shell, found: Bootstrapped) -> list[RenderableType]:
    if not found.ends:
        return [
            Text(f"{found.pipeline}: its sources are empty; tidemill run {found.pipeline} reads what comes")
        ]
    ends = "; ".join(f"{name}: {end}" for name, end in found.ends.items())
    after = render.lines([f"  go on: tidemill run {found.pipeline}"])
    if found.done is None:
        return [Text(f"{found.pipeline}: all is computed up to {ends}"), *after]
    parts = done_parts(found.done, shell.engine.project.pipeline(found.pipeline))
    return [*parts, *render.lines([f"  history ends at {ends}"]), *after]
