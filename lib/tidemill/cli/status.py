"""``status``: coverage, lag, last batches, who runs what. Reads files alone: no JVM, well under a second."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, ProjectDir
from tidemill.cli.shell import Shell
from tidemill.errors import TidemillError

if TYPE_CHECKING:
    from tidemill.reports import Status

_Name = Annotated[
    str | None,
    typer.Argument(metavar="PIPELINE", help="One pipeline, with every interval of it.", show_default=False),
]


def status(
    context: typer.Context,
    *,
    pipeline: _Name = None,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Show what each table holds, and whether that is what the code gives. Starts no JVM."""
    shell = Shell.of(context, project, env, as_json=as_json)
    if pipeline is None:
        _all(shell)
        return
    (found,) = shell.engine.status(pipeline)
    coverage = shell.engine.coverage(pipeline)
    body = found.as_json() | {"intervals": coverage.as_json()["intervals"]}
    parts = render.status_block(_without_intervals(found), shell.engine.clock.now())
    if coverage.rows:
        parts += [Text(), render.indented(render.coverage_table(coverage))]
    if found.rules:
        parts += [Text(), render.indented(render.rule_table(found.rules))]
    shell.output.show({"pipelines": [body]}, *parts)


def _all(shell: Shell) -> None:
    bodies: list[dict[str, Any]] = []
    parts: list[RenderableType] = []
    worst = 0
    for name in sorted(shell.engine.project.pipelines):
        try:
            (found,) = shell.engine.status(name)
        except TidemillError as error:
            # One pipeline whose code does not load must not hide the others.
            bodies.append({"pipeline": name} | error.as_json())
            parts += [Text.assemble((name, "bold"), ("  error: ", "bold red"), error.message)]
            parts += [render.indented(Text(f"next: {error.next_step}"))] if error.next_step else []
            worst = max(worst, error.exit_code)
        else:
            bodies.append(found.as_json())
            parts += render.status_block(found, shell.engine.clock.now())
        parts.append(Text())
    shell.output.show({"pipelines": bodies}, *parts[:-1])
    if worst:
        raise typer.Exit(worst)


def _without_intervals(found: Status) -> Status:
    # All of them follow in a table of their own.
    return replace(found, not_clean=())
