"""``check``: the table's suite over what the table holds; publishes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, From, PipelineName, ProjectDir, To
from tidemill.cli.selectors import request_of
from tidemill.cli.shell import Shell
from tidemill.display import words

if TYPE_CHECKING:
    from tidemill.execution.check import Checked
    from tidemill.ledger.verdicts import Result


def check(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    start: From = None,
    end: To = None,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the table's whole suite over the rows that the table holds, what runs in Great Expectations too.

    Without a range: over all of them. Writes nothing. Exit code 1 when an expectation whose action is fail is not met;
    one whose action is another is shown, and exits 0.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    request = request_of(start=start, end=end)
    with shell.output.working("starting"):
        found = shell.engine.check(pipeline, request)
    shell.output.show(found.as_json(), *_parts(found))
    if not found.holds:
        raise typer.Exit(1)


def _parts(found: Checked) -> list[RenderableType]:
    asked, unmet = len(found.results), len(found.unmet)
    made = render.table("expectation", "action", "looked at", "unexpected", "seen", "", right=_NUMBERS)
    for expectation, result in found.results:
        made.add_row(
            expectation.id,
            expectation.action.value,
            "" if result.looked_at is None else f"{result.looked_at:,}",
            f"{result.unexpected:,}" if result.unexpected else "",
            _seen(result),
            render.word("ok")
            if result.met
            else Text("not met", style=_STYLES.get(expectation.action, "yellow")),
        )
    head = Text.assemble(
        (found.pipeline, "bold"),
        "  ",
        render.word("ok" if found.holds else "failed"),
        f"  {asked - unmet} of {words.count(asked, 'expectation')} met by {words.count(found.rows, 'row')}",
        f" of version {found.version}",
    )
    return [head, render.indented(made)]


_NUMBERS = ("looked at", "unexpected")
_STYLES = {"fail": "bold red"}


def _seen(result: Result) -> str:
    return "" if result.value is None else str(result.value)
