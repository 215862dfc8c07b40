"""``quarantine``: which input rows were set aside, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, PipelineName, ProjectDir
from tidemill.cli.shell import Shell
from tidemill.display import words

if TYPE_CHECKING:
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
    """List the input rows that were set aside, by reason, with a sample of them as they came. Starts no JVM.

    They are a Delta table beside the pipeline's own.
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
        reasons.add_row(f"{each.rows:,}", each.input, each.reason)
    parts: list[RenderableType] = [head, render.indented(reasons)]
    for row in found.sample:
        file = f"  {Path(row.file).name}" if row.file else ""
        parts += [
            Text(),
            render.indented(Text(f"{words.moment(row.at)[:19]}  {row.input}{file}", style="dim")),
            render.indented(Text(row.record or "")),
            *(render.indented(Text(f"  {reason}", style="yellow")) for reason in row.reasons),
        ]
    return [*parts, Text(), render.indented(Text(found.path, style="dim"))]
