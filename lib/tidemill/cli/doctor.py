"""``doctor``: does this machine have what tidemill needs?"""

from __future__ import annotations

from pathlib import Path

import typer
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, ProjectDir
from tidemill.cli.output import Output
from tidemill.config import find_root
from tidemill.errors import ConfigError


def doctor(*, project: ProjectDir = None, as_json: AsJson = False) -> None:
    """Check Python, Java, versions, jars, disk, time zones and keys of persons, without starting Spark. Exit code 2 when one fails."""
    from tidemill.execution.doctor import checks

    found = checks(_tables(project))
    made = render.table("", "check", "detail")
    for check in found:
        made.add_row(render.word("ok" if check.ok else "failed"), check.name, check.detail)
        if check.next_step:
            made.add_row("", "", Text.assemble(("next: ", "bold"), check.next_step))
    body = {
        "ok": all(check.ok for check in found),
        "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail, "next_step": c.next_step} for c in found],
    }
    Output(as_json=as_json).show(body, made)
    if not body["ok"]:
        raise typer.Exit(2)


def _tables(project: Path | None) -> Path | None:
    try:
        return find_root(project) / "data"
    except ConfigError:
        # A machine can be examined before there is a project.
        return None
