"""``replay``: all of a table anew from its events, in place or elsewhere, whole or up to a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.agreement import DryRun, Yes, ask, must_ask
from tidemill.cli.backfill import resumable, show_done
from tidemill.cli.options import AsJson, EnvName, Force, PipelineName, ProjectDir, TakeOver, Why
from tidemill.cli.shell import Shell
from tidemill.display import words
from tidemill.errors import PlanError
from tidemill.planning.gates import forced
from tidemill.planning.plan import explain, to_json
from tidemill.planning.replaying import Events, check_whole, parse_speed

if TYPE_CHECKING:
    from tidemill.execution.replay import Foreseen, Replayed

_From = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="With --into: events from here on, UTC.", show_default=False),
]
_Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TIME|POSITION",
        help="With --into: events before this time, or up to and with this position.",
        show_default=False,
    ),
]
_Position = Annotated[
    str | None,
    typer.Option(
        "--position",
        metavar="COLUMN",
        help="The column of positions, whole numbers that grow from event to event; else one named position.",
        show_default=False,
    ),
]
_Into = Annotated[
    str | None,
    typer.Option(
        "--into", metavar="PATH", help="A fresh table, in place of the pipeline's own.", show_default=False
    ),
]
_Speed = Annotated[
    str | None,
    typer.Option(
        "--speed",
        metavar="10x",
        help="With --into: as a live stream, at so many times the pace of the events.",
        show_default=False,
    ),
]


def replay(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    start: _From = None,
    until: _Until = None,
    position: _Position = None,
    into: _Into = None,
    speed: _Speed = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
    why: Why = None,
    take_over: TakeOver = False,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Make a pipeline's table anew from all of its events with today's code, and switch to it in one commit.

    The live stream and readers go on meanwhile, and see the old table or the new one. With --into the pipeline's own table is
    left alone: a fresh one is written at PATH, as of a time or a position, or at a pace (--speed). Nothing is sent to
    topics. Exit code 1 when the gate refused.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    known = shell.engine.project.pipeline(pipeline)
    events = Events.of(start, until, position)
    pace = parse_speed(speed) if speed is not None else None
    if into is None:
        check_whole(known, events, paced=pace is not None)
        _rebuild(shell, pipeline, dry_run=dry_run, yes=yes, force=force, why=why, take_over=take_over)
        return
    if force or why or take_over:
        raise PlanError(
            "--force, --why and --take-over are for the pipeline's own table",
            next_step="leave them out: a replay into another table asks no gate, and takes no lease",
        )
    foreseen = shell.engine.foresee_replay(pipeline, into, start=start, until=until, position_column=position)
    if dry_run:
        shell.output.show(foreseen.as_json(), *render.plan_lines(_foreseen_lines(foreseen)))
        return
    with shell.output.working("starting"):
        found = shell.engine.replay(
            pipeline, into, start=start, until=until, position_column=position, speed=pace
        )
    shell.output.show(found.as_json(), *_parts(found))


def _rebuild(
    shell: Shell, name: str, *, dry_run: bool, yes: bool, force: bool, why: str | None, take_over: bool
) -> None:
    forced(force=force, why=why)
    if dry_run:
        found = shell.engine.foresee_rebuild(name)
        shell.output.show(to_json(found), *render.plan_lines(explain(found)))
        return
    if must_ask(shell, yes=yes):
        ask(shell, *render.plan_lines(explain(shell.engine.foresee_rebuild(name))))
    with resumable(shell, name), shell.output.working("starting"):
        done = shell.engine.rebuild(name, force=force, why=why, take_over=take_over)
    show_done(shell, done)


def _foreseen_lines(found: Foreseen) -> list[str]:
    return [
        f"{found.pipeline}: replay {found.events}",
        *(f"  {name}: {what}" for name, what in found.inputs.items()),
        f"  into a new table at {found.into}, by {found.mode}",
    ]


def _parts(found: Replayed) -> list[RenderableType]:
    head = Text.assemble(
        (found.pipeline, "bold"),
        f"  {words.count(found.rows, 'row')} of {found.events}, in {found.seconds:.1f} s",
    )
    lines = [f"  {name}: {what}" for name, what in found.inputs.items()]
    if found.left_out:
        lines.append(f"  rules left {words.count(found.left_out, 'row')} out")
    if found.speed is not None:
        lines.append(
            f"  at {found.speed:,.1f} times the events' pace; at most {found.behind_seconds:.1f} s behind"
        )
    if found.stopped:
        lines.append("  stopped before the last event")
    return [head, *render.lines([*lines, f"  {found.into}, version {found.version}"])]
