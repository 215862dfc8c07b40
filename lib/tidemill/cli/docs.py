"""``docs``: Data Docs of what a pipeline's suites have found."""

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
    from tidemill.execution.docs import Docs

_Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Write them here; else beside the pipeline's ledger.", show_default=False
    ),
]
_Keep = Annotated[
    int,
    typer.Option(
        "--keep",
        min=1,
        metavar="N",
        help="How many validations have a page, the newest; pages of older ones go.",
    ),
]


def docs(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    out: _Out = None,
    keep: _Keep = 200,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Write Data Docs: pages of what the suites found in each batch and each backfilled chunk, by the table's own log.

    The pages are Great Expectations', static, and name no address outside their folder. Beside each is its JSON, in GX's
    own shape; --json prints the index. Starts no JVM.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    with shell.output.working("rendering"):
        found = shell.engine.docs(pipeline, out=out, keep=keep)
    shell.output.show(found.as_json(), *_parts(found))


def _parts(found: Docs) -> list[RenderableType]:
    validations = found.index["validations"]
    unmet = sum(not each["success"] for each in validations)
    return [
        Text.assemble(
            (found.index["pipeline"], "bold"),
            f"  {words.count(len(validations), 'validation')}, {unmet} of them not met",
        ),
        render.indented(Text(found.page)),
    ]
