"""``verify``: recompute and compare; publishes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, From, PipelineName, ProjectDir, To
from tidemill.cli.outcomes import sample_as_json
from tidemill.cli.rows import Rows
from tidemill.cli.selectors import request_of
from tidemill.cli.shell import Shell
from tidemill.display import words
from tidemill.display.pairs import paired

if TYPE_CHECKING:
    from tidemill.execution.verify import Verified

_Probe = Annotated[
    bool,
    typer.Option("--probe", help="Also with doubled lookback and lookahead: are the declared ones enough?"),
]


def verify(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    start: From = None,
    end: To = None,
    probe: _Probe = False,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the clean intervals and compare them with the table. Exit code 1 when they differ."""
    shell = Shell.of(context, project, env, as_json=as_json)
    request = request_of(start=start, end=end)
    with shell.output.working("starting"):
        found = shell.engine.verify(pipeline, request, probe=probe)
    body = found.as_json() | {"samples": [sample_as_json(sample) for sample in found.samples]}
    shell.output.show(body, *_parts(found))
    if not found.holds:
        raise typer.Exit(1)


def _parts(found: Verified) -> list[RenderableType]:
    if not found.intervals:
        return [Text(f"{found.pipeline}: no clean interval to verify")]
    checked = words.count(len(found.intervals), "interval")
    if found.holds:
        return [
            Text.assemble(
                (found.pipeline, "bold"), "  ", render.word("ok"), f"  {checked} recomputed: all equal"
            )
        ]
    made = render.table("interval", "missing", "unexpected", "why", right=("missing", "unexpected"))
    for each in found.differing:
        made.add_row(each.interval, f"+{each.missing:,}", f"-{each.unexpected:,}", each.why)
    differing = f"  {len(found.differing)} of {checked}"
    parts: list[RenderableType] = [
        Text.assemble((found.pipeline, "bold"), "  ", render.word("differs"), differing),
        render.indented(made),
    ]
    if found.samples:
        parts += render.lines(["  some of the rows: + as recomputed, - as the table has them"])
        parts += [render.indented(Rows(paired(found.samples, found.key), found.key), 4)]
    return parts
