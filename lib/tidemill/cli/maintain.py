"""``maintain``: compaction, log checkpoint, vacuum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from tidemill.cli import render
from tidemill.cli.options import AsJson, EnvName, PipelineName, ProjectDir
from tidemill.cli.shell import Shell
from tidemill.display import words

if TYPE_CHECKING:
    from tidemill.execution.upkeep import Upkeep

_Retention = Annotated[
    int,
    typer.Option(
        "--retention-hours",
        metavar="HOURS",
        help="Keep what readers, undo and resume may need this long; 24 at least.",
    ),
]
_LogRetention = Annotated[
    int,
    typer.Option(
        "--log-hours",
        metavar="HOURS",
        help="Keep the log's commits this long; never less than the files they speak of.",
    ),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; nothing is written.")]


def maintain(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    retention_hours: _Retention = 168,
    log_hours: _LogRetention = 720,
    dry_run: _DryRun = False,
    project: ProjectDir = None,
    env: EnvName = None,
    as_json: AsJson = False,
) -> None:
    """Compact small files, write a log checkpoint, remove files and commits that nothing needs; of an archive, intervals
    that its sink does not retain.

    Safe beside a live stream.
    """
    shell = Shell.of(context, project, env, as_json=as_json)
    with shell.output.working("tidying"):
        done = shell.engine.maintain(
            pipeline, retention_hours=retention_hours, log_hours=log_hours, dry_run=dry_run
        )
    shell.output.show(done.as_json(), *_parts(done))


def _parts(done: Upkeep) -> list[RenderableType]:
    would = "would be " if done.dry_run else ""
    compacted = words.count(len(done.compacted), "interval")
    files = f"{done.files_before:,}" if done.dry_run else f"{done.files_before:,} -> {done.files_after:,}"
    texts = [
        *_expired(done),
        f"live files  {files}",
        f"compacted   {compacted}{': ' + ', '.join(done.compacted[:8]) if done.compacted else ''}",
        f"vacuumed    {words.count(done.vacuumed, 'file')}, {words.count(done.orphans, 'abandoned folder')}",
        f"forgotten   {words.count(len(done.runs_forgotten), 'run')}",
        *_states(done),
        *_beside(done),
        f"log         {words.count(done.log_cleaned, 'file')} cleaned{_kept_for(done)}",
    ]
    head = Text.assemble((done.pipeline, "bold"), f"  {would}tidied" if done.dry_run else "  tidied")
    return [head, *(render.indented(Text(text)) for text in texts)]


def _expired(done: Upkeep) -> list[str]:
    if not done.expired:
        return []
    labels = f"{done.expired[0]} to {done.expired[-1]}" if len(done.expired) > 1 else done.expired[0]
    what = f"{words.count(done.expired_rows, 'row')}, {words.size(done.expired_bytes)}"
    return [f"expired     {words.count(len(done.expired), 'interval')}: {labels}; {what}"]


def _states(done: Upkeep) -> list[str]:
    found = done.states
    drawn = f"drawn together at the end of {found.drawn}; " if found.drawn else ""
    gone = found.unnamed + found.vacuumed
    return [f"states      {drawn}{words.count(gone, 'file')} of no use"] if found.drawn or gone else []


def _beside(done: Upkeep) -> list[str]:
    found = done.beside
    what = f"{words.count(found.vacuumed, 'file')} of data, {found.log_cleaned:,} of logs"
    return [f"beside      {what}, of quarantine and the like"] if found.vacuumed or found.log_cleaned else []


def _kept_for(done: Upkeep) -> str:
    return f"; older commits wait for {', '.join(done.log_kept_for)}" if done.log_kept_for else ""
