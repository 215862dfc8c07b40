"""Upkeep of the tables beside a pipeline's own: of its quarantine, its unsent messages, its rejections. No JVM.

They are small, and only old versions are taken out of them: a row that a backfill took out of the quarantine may hold what a
person had opened, and so may the statistics of its commit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from tidemill.ledger import cleaning, log
from tidemill.model import Pipeline
from tidemill.sinks.table import look
from tidemill.storage import Place, of_deltalake


@dataclass(frozen=True, slots=True)
class BesideKept:
    """What upkeep took, or with ``dry_run`` would take, out of the tables beside: data files, and files of their logs."""

    vacuumed: int = 0
    log_cleaned: int = 0


NOTHING_BESIDE = BesideKept()


def tables_beside(pipeline: Pipeline) -> tuple[str, ...]:
    """The paths of the tables that a pipeline may have beside its own."""
    own = (pipeline.quarantine_path, pipeline.unsent_path)
    return (*own, pipeline.rejections_path) if pipeline.recorded else own


def keep_beside(
    pipeline: Pipeline,
    *,
    retention_hours: int,
    log_hours: int,
    below: Mapping[str, Mapping[str, int]],
    dry_run: bool,
) -> BesideKept:
    """Take files and commits that nothing needs out of the tables beside; ``below``: by path, the version from which each
    stream that reads it goes on.
    """
    vacuumed, cleaned = 0, list[Place]()
    for path in tables_beside(pipeline):
        if not log.exists(path):
            continue
        table = look(path)
        with of_deltalake(path):
            if not dry_run and not below.get(path):
                # In a table that Spark made this cleans the log, too, by the table's own retention, whoever reads it.
                table.create_checkpoint()
            # Here nothing is staged for later: what no commit names was left by a crash.
            gone = table.vacuum(
                retention_hours=retention_hours, dry_run=dry_run, enforce_retention_duration=False, full=True
            )
        vacuumed += len(gone)
        first = cleaning.first_needed(path, time.time() - max(log_hours, retention_hours) * 3600)
        cleaned += cleaning.not_needed(path, min([first, *below.get(path, {}).values()]))
    if not dry_run:
        for file in cleaned:
            file.unlink(missing_ok=True)
    return BesideKept(vacuumed, len(cleaned))
