"""``run``: the live streams, several in one session, until they end or a signal asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, ProjectDir, TakeOver
from tidemill.cli.output import report
from tidemill.cli.shell import Shell
from tidemill.display import words
from tidemill.errors import ConfigError
from tidemill.intervals import parse_duration
from tidemill.model import Trigger

if TYPE_CHECKING:
    from tidemill.execution.supervise import Outcome

_Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="PIPELINE...", help="The pipelines; all when none is named.", show_default=False),
]
_AvailableNow = Annotated[bool, typer.Option("--available-now", help="Read what is there, then stop.")]
_Every = Annotated[
    str | None,
    typer.Option("--trigger", metavar="DURATION", help='A batch every "10 seconds".', show_default=False),
]
_Cron = Annotated[
    str | None,
    typer.Option(
        "--cron",
        metavar="LINE",
        help='At the moments of a cron line, UTC: "*/5 * * * *".',
        show_default=False,
    ),
]


def run(
    context: typer.Context,
    *,
    pipelines: _Names = None,
    available_now: _AvailableNow = False,
    every: _Every = None,
    cron: _Cron = None,
    take_over: TakeOver = False,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Run live streams, each by its own trigger or by the one given here.

    Ctrl-C and SIGTERM end them after the batch they are in. A pipeline that fails leaves the others running;
    the exit code is 1 then.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    trigger = _trigger(available_now=available_now, every=every, cron=cron)
    names = pipelines or sorted(shell.engine.project.pipelines)
    for name in names:
        shell.engine.project.pipeline(name)
    with shell.output.working(f"running {', '.join(names)}; Ctrl-C stops after the batch"):
        outcomes = shell.engine.run(*names, trigger=trigger, take_over=take_over)
    lines = [line for each in outcomes for line in (_line(each), *_astray(each))]
    shell.output.show({"pipelines": [_as_json(each) for each in outcomes]}, *lines)
    failed = [each.error for each in outcomes if each.error is not None]
    if failed:
        if not as_json:
            for error in failed:
                report(error, as_json=False)
        raise typer.Exit(min(error.exit_code for error in failed))


def _trigger(*, available_now: bool, every: str | None, cron: str | None) -> Trigger | None:
    """The trigger that the options spell; None leaves each pipeline its own. Raises :class:`ConfigError`."""
    if not (available_now or every or cron):
        return None
    try:
        return Trigger(
            available_now=available_now, processing_time=parse_duration(every) if every else None, cron=cron
        )
    except ValidationError as error:
        message = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
        one = sum(map(bool, (available_now, every, cron))) == 1
        step = (
            "write minute, hour, day, month and weekday: */5 * * * *"
            if one
            else "one of --available-now, --trigger, --cron"
        )
        raise ConfigError(message, next_step=f"{step}; see: tidemill run --help") from None


def _as_json(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error.as_json() if outcome.error else None
    return {
        "pipeline": outcome.pipeline,
        "batches": outcome.batches,
        "error": error,
        "astray": outcome.astray,
    }


def _astray(outcome: Outcome) -> list[RenderableType]:
    if outcome.astray is None:
        return []
    return render.lines(
        [
            f"  what its stream adds is dirty: {outcome.astray}",
            f"  backfill what is not clean, then: tidemill restart {outcome.pipeline}",
        ]
    )


def _line(outcome: Outcome) -> RenderableType:
    return Text.assemble(
        (outcome.pipeline, "bold"),
        "  ",
        render.word("failed" if outcome.error else "ok"),
        f"  {words.count(outcome.batches, 'batch')} published",
    )
