"""``erase``: a person's fields become unreadable, wherever they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.agreement import Yes, ask, must_ask
from tidemill.cli.options import AsJson, EnvName, ProjectDir
from tidemill.cli.shell import Shell
from tidemill.display import words

if TYPE_CHECKING:
    from tidemill.execution.erase import Erasure

_Subject = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="Whose key is to go, as the subject column names them.")
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be reached; no key is erased.")]

_Unseen = Annotated[
    bool,
    typer.Option(
        "--unseen",
        help="Also where no key of SUBJECT is known yet: what comes later under this name is unreadable then.",
    ),
]


def erase(
    context: typer.Context,
    *,
    subject: _Subject,
    dry_run: _DryRun = False,
    unseen: _Unseen = False,
    yes: Yes = False,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person: their key goes for good, and with it what was sealed, in tables, quarantine and old versions alike.

    Intervals that rows of the person belong to are dirty afterwards; the backfills that compute them anew are named.
    A SUBJECT that no store of keys has ever known is refused (exit code 2), unless --unseen is given. It cannot be undone. On a
    terminal it asks; elsewhere --yes is needed.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    if not dry_run and must_ask(shell, yes=yes, to="it"):
        ask(shell, question=f"Erase the key of {subject!r}, for good?")
    with shell.output.working("starting"):
        found = shell.engine.erase(subject, dry_run=dry_run, unseen=unseen)
    shell.output.show(found.as_json(), *_parts(found))


def _parts(found: Erasure) -> list[RenderableType]:
    from tidemill.execution.erase import left_to_do

    head = Text(_head(found))
    counts = ("rows", "events", "rejections", "set aside")
    made = render.table("pipeline", *counts, "intervals", "", right=counts)
    for each in found.pipelines:
        labels = ", ".join(each.intervals[:4]) + (", ..." if len(each.intervals) > 4 else "")
        made.add_row(
            each.pipeline,
            f"{each.rows:,}",
            *(f"{count:,}" if count else "" for count in (each.events, each.rejections, each.set_aside)),
            f"{len(each.intervals)}: {labels}" if each.intervals else "",
            f"read whole by {', '.join(each.beside)}"
            if each.beside
            else "opens fields"
            if each.opens
            else "",
        )
    parts: list[RenderableType] = [head, render.indented(made)]
    running = [each.pipeline for each in found.pipelines if each.running]
    if running and not found.dry_run:
        parts += render.lines(
            [
                f"{', '.join(running)}: a stream is running; the batch under way may have had the key, and is dirty then: backfill after it"
            ]
        )
    if not found.dry_run:
        parts += render.lines([f"next: {command}" for command in left_to_do(found)])
    return parts


def _head(found: Erasure) -> str:
    if found.keys:
        return f"{words.count(found.keys, 'key')} {'would be erased' if found.dry_run else 'erased'}"
    if found.known == "unseen":
        later = "would be unreadable" if found.dry_run else "is unreadable"
        return f"no key was known; what comes later under this name {later}"
    return "erased before: no key is left"
