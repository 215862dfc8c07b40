"""``state``: what a fold without a horizon knew of each key at a moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, PipelineName, ProjectDir
from tidemill.cli.shell import Shell
from tidemill.display import words
from tidemill.errors import PlanError

if TYPE_CHECKING:
    from tidemill.states import StatesAt

_At = Annotated[
    str,
    typer.Option(
        "--at",
        metavar="MOMENT",
        help="2024-03-05 or 2024-03-05T13: all before it counts.",
        show_default=False,
    ),
]
_Key = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="COLUMN=VALUE",
        help="Only keys with this value; again for another value of the column, or for another column.",
        show_default=False,
    ),
]
_Most = Annotated[
    int, typer.Option("--most", metavar="N", min=1, help="Show so many keys; --json has them all.")
]


def state(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    at: _At,
    key: _Key = None,
    most: _Most = 20,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Show the states of a fold without a horizon at a moment, from what is kept at interval ends. Starts no JVM.

    They are those of the last interval end at or before the moment: all rows and timers before it are in them, none after.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    found = shell.engine.state_at(pipeline, at, key=_wanted(shell, pipeline, key or ()))
    # Moments and decimals as text.
    body = json.loads(json.dumps(found.as_json(), default=str))
    shell.output.show(body, *_parts(found, most))


def _wanted(shell: Shell, pipeline: str, asked: Sequence[str]) -> dict[str, list[str]]:
    """By column, the values that are asked for."""
    wanted: dict[str, list[str]] = {}
    for text in asked:
        name, equals, value = text.partition("=")
        if not equals:
            columns = shell.engine.key_columns(pipeline)
            column = name if name in columns or not columns else columns[0]
            raise PlanError(
                f"--key {text!r} names no value",
                next_step=f"write --key {column or 'COLUMN'}=VALUE"
                + (f"; the key of {pipeline} is {', '.join(columns)}" if columns else ""),
            )
        wanted.setdefault(name, []).append(value)
    return wanted


def _parts(found: StatesAt, most: int) -> list[RenderableType]:
    counted = words.count(len(found.keys), "key")
    parts: list[RenderableType] = [
        Text.assemble((found.pipeline, "bold"), f"  {counted} at {found.at:%Y-%m-%dT%H:%M}")
    ]
    if found.why:
        parts.append(render.indented(Text(f"not what today's code gives: {found.why}", style="yellow")))
    if not found.keys:
        return parts
    shown = found.keys[:most]
    table = render.table(*shown[0].key, *shown[0].state, "since")
    for each in shown:
        table.add_row(
            *map(str, each.key.values()), *map(str, each.state.values()), f"{each.since:%Y-%m-%dT%H:%M}"
        )
    more = render.and_more(len(found.keys) - most, "--most, --key, --json")
    return [*parts, *map(render.indented, (table, *more))]
