"""``aggregate`` and ``redecide``: what an event store says of one aggregate, and what today's code would have said of all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, PipelineName, ProjectDir
from tidemill.cli.shell import Shell
from tidemill.display import words
from tidemill.intervals import parse_moment

if TYPE_CHECKING:
    from tidemill.aggregates import Aggregate
    from tidemill.execution.redecide import Redecided

_Name = Annotated[
    str,
    typer.Argument(
        metavar="TYPE/SUBJECT", help="The aggregate: its type and its subject.", show_default=False
    ),
]
_Version = Annotated[
    int | None,
    typer.Option("--version", min=1, metavar="N", help="After its first N events.", show_default=False),
]
_At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="MOMENT",
        help="After all its events up to here: 2013-01-05T13, UTC.",
        show_default=False,
    ),
]
_Most = Annotated[int, typer.Option("--most", min=0, metavar="N", help="How many differences are shown.")]


def aggregate(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    name: _Name,
    version: _Version = None,
    at: _At = None,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Show the state of an aggregate of an event store: now, at a version or at a time, and the events that led there.

    The state is folded by today's code, older events through their upcasters. Starts no JVM.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    found = shell.engine.aggregate(
        pipeline, name, version=version, at=None if at is None else parse_moment(at)
    )
    shell.output.show(found.as_json(), *_aggregate_parts(found))


def _aggregate_parts(found: Aggregate) -> list[RenderableType]:
    of = f" of {found.newest}" if found.newest != found.version else ""
    made = render.table("version", "time", "event", "data", right=["version"])
    for each in found.events[-20:]:
        made.add_row(str(each.version), f"{each.time:%Y-%m-%dT%H:%M:%S}", each.type, each.data)
    earlier = len(found.events) - 20
    return [
        Text.assemble((f"{found.aggregate}/{found.subject}", "bold"), f"  at version {found.version}{of}"),
        render.indented(Text(json.dumps(found.state))),
        *(
            [render.indented(Text(f"{words.count(earlier, 'event')} before these", style="dim"))]
            if earlier > 0
            else []
        ),
        render.indented(made),
    ]


def redecide(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    most: _Most = 20,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Decide an event store's commands again by today's code, in the order of then, and compare. Writes nothing.

    What was decided stays: send commands that put it right. Exit code 1 when events would be others.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    with shell.output.working("deciding again"):
        found = shell.engine.redecide(pipeline, most=most)
    shell.output.show(found.as_json(), *_redecided_parts(found))
    if not found.holds:
        raise typer.Exit(1)


def _redecided_parts(found: Redecided) -> list[RenderableType]:
    counts = ", ".join(f"{count:,} {change}" for change, count in found.changes.items()) or "none"
    state = render.word("ok" if found.holds else "differs")
    decided = f"  {words.count(found.commands, 'command')} decided again: {counts}"
    parts: list[RenderableType] = [Text.assemble((found.pipeline, "bold"), "  ", state, decided)]
    if found.gone:
        gone = f"{words.count(found.gone, 'decided command')} no longer in the input, and left out"
        parts.append(render.indented(Text(gone, style="yellow")))
    if found.differences:
        made = render.table("aggregate", "command", "change", "then", "now")
        for each in found.differences:
            name = f"{each.aggregate}/{each.subject}"
            made.add_row(name, each.command, each.change, _said(each.then), _said(each.now))
        parts.append(render.indented(made))
    return parts


def _said(outcomes: Iterable[dict[str, Any]]) -> str:
    return "; ".join(
        f"{each['refused']}: {each['reason']}"
        if "refused" in each
        else f"{each['type']} {json.dumps(each.get('data', each.get('unreadable')))}"
        for each in outcomes
    )
