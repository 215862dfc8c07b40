"""``query``: SQL over the pipelines' tables, answered without Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, ProjectDir
from tidemill.cli.shell import Shell
from tidemill.display.answer import said_of

if TYPE_CHECKING:
    from tidemill.queries import Answer

_Sql = Annotated[
    str,
    typer.Argument(
        metavar="SQL",
        help="One SELECT, in DuckDB's SQL; a pipeline's name is its table's name.",
        show_default=False,
    ),
]
_At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME|VERSION",
        help="The tables as they were then, by the time of their commits in UTC; or one table at a version.",
        show_default=False,
    ),
]
_Most = Annotated[
    int, typer.Option("--rows", metavar="N", min=1, help="Print at most so many; JSON has all.")
]


def query(
    context: typer.Context,
    *,
    sql: _Sql,
    at: _At = None,
    rows: _Most = 200,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Answer SQL from the pipelines' tables, in milliseconds: without Spark, and without writing anything.

    Each table is read at one version, which the answer names. P_quarantine is what the pipeline P has set aside, and has no rows
    where that is nothing; P_rejections are the commands of which nothing came in an event store P.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    found = shell.engine.query(sql, at=at)
    shell.output.show(found.as_json(), *_parts(found, rows))


def _parts(found: Answer, most: int) -> list[RenderableType]:
    made = render.table(*found.columns)
    for row in found.arrow.slice(0, most).to_pylist():
        made.add_row(*("" if value is None else Text(str(value)) for value in row.values()))
    more = render.and_more(found.arrow.num_rows - most, "--rows, or LIMIT and ORDER BY", "row")
    return [*([made] if found.arrow.num_rows else []), *more, Text(said_of(found), style="dim")]
