"""What a verb asks before it writes: somebody at a terminal, or ``--yes``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import RenderableType

from tidemill.cli.shell import Shell
from tidemill.errors import PlanError

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is written.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def must_ask(shell: Shell, *, yes: bool, to: str = "the plan") -> bool:
    """Whether somebody is to be asked. Raises :class:`PlanError` where nobody is there, before anything is looked at."""
    if yes:
        return False
    if shell.output.as_json or not shell.hands.is_terminal():
        raise PlanError(
            f"nobody is there to agree to {to}", next_step="look at it with --dry-run, then pass --yes"
        )
    return True


def ask(shell: Shell, *shown: RenderableType, question: str = "Go ahead?") -> None:
    """Show what is meant, and return when the person has agreed. Raises typer's Abort on a no."""
    shell.output.note(*shown)
    typer.confirm(question, abort=True, err=True)
