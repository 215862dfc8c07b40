"""``plan``: what a backfill would do, and why. Nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import (
    AsJson,
    Dirty,
    EnvName,
    From,
    IncludeOpen,
    Missing,
    NewestFirst,
    PipelineName,
    ProjectDir,
    Stale,
    To,
)
from tidemill.cli.selectors import request_of
from tidemill.cli.shell import Shell
from tidemill.errors import ConfigError
from tidemill.planning.plan import explain, to_json

if TYPE_CHECKING:
    from tidemill.planning.plan import Plan

_Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Keep the plan, for backfill --plan FILE.", show_default=False
    ),
]


def plan(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    start: From = None,
    end: To = None,
    dirty: Dirty = False,
    stale: Stale = False,
    missing: Missing = False,
    include_open: IncludeOpen = False,
    newest_first: NewestFirst = False,
    out: _Out = None,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Show what a backfill would do: intervals and why, pins, bytes, checks, what reads the table.

    Without a choice of intervals: everything that is dirty, stale or missing. Starts no JVM.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    request = request_of(
        start=start,
        end=end,
        dirty=dirty,
        stale=stale,
        missing=missing,
        include_open=include_open,
        newest_first=newest_first,
    )
    found = shell.engine.plan(pipeline, request)
    if out is not None:
        _save(found, out)
    shell.output.show(to_json(found), *render.plan_lines(explain(found)))
    if out is not None:
        shell.output.note(Text(f"kept in {out}; carry it out: tidemill backfill --plan {out}"))


def _save(found: Plan, out: Path) -> None:
    try:
        out.write_text(json.dumps(to_json(found), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be written: {error.strerror}", next_step="choose another --out", file=str(out)
        ) from None
