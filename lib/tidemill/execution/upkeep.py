"""Upkeep: compaction, log checkpoint, vacuum, log cleanup, and the removal of what crashed runs left. No JVM.

Guards. Rows are only rearranged (``dataChange`` false), never changed. The index is brought up to date
first, so that nothing is cleaned past what it holds. Files that were removed or staged within the retention
stay: slow readers, ``undo`` and ``resume`` need them; and as ``publish`` and ``undo`` replace files by name, no
interval of a run that is still known is compacted. Commits that a stream below has yet to read stay.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from deltalake import CommitProperties

from tidemill.errors import PlanError
from tidemill.execution.refusals import deliver_if_idle
from tidemill.execution.retention import expire
from tidemill.execution.runs import RunFolder, list_runs
from tidemill.execution.states_upkeep import NONE_KEPT, StatesKept, keep_states
from tidemill.execution.upkeep_beside import NOTHING_BESIDE, BesideKept, keep_beside
from tidemill.ledger import cleaning, index, log
from tidemill.model import Pipeline
from tidemill.protocol import Point, passing
from tidemill.sinks import writer
from tidemill.sinks.files import DataFile, partition_values
from tidemill.sinks.table import LogTable, look
from tidemill.storage import Place, check_conditions, newest, of_deltalake, place, remove_tree
from tidemill.view import View, shape_of

_SMALL_FILES = 8
_MIN_RETENTION_HOURS = 24


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What upkeep did, or with ``dry_run`` would do.

    ``log_cleaned``: files of the log. ``log_kept_for``: the pipelines below that have yet to read older commits.
    ``expired``: the intervals that the sink's retention took, with their rows and bytes. ``states``: of those at interval
    ends. ``beside``: of the quarantine and the other tables beside.
    """

    pipeline: str
    compacted: tuple[str, ...]
    files_before: int
    files_after: int
    vacuumed: int
    orphans: int
    runs_forgotten: tuple[str, ...]
    log_cleaned: int
    log_kept_for: tuple[str, ...]
    dry_run: bool
    expired: tuple[str, ...] = ()
    expired_rows: int = 0
    expired_bytes: int = 0
    states: StatesKept = NONE_KEPT
    beside: BesideKept = NOTHING_BESIDE

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def maintain(
    view: View,
    *,
    retention_hours: int,
    log_hours: int,
    below: Mapping[str, int],
    now: datetime,
    dry_run: bool,
    below_beside: Mapping[str, Mapping[str, int]] = {},
) -> Upkeep:
    """Keep one pipeline's table in shape; safe beside live streams and backfills.

    ``below``: the version from which the streams that read this table go on, by pipeline; ``below_beside``: the same of
    tables beside it, by path. ``now``: what retention by age counts from.

    Raises :class:`PlanError` for a retention under a day: a reader or an undo might still need the files; and when
    the table needs Spark's own upkeep.
    """
    _check_retention(retention_hours)
    pipeline, table = view.pipeline, _table(view.pipeline)
    if not dry_run:
        check_conditions(table.path)
        deliver_if_idle(pipeline)
    gone = expire(pipeline, table, now, dry_run=dry_run)
    if not dry_run:
        index.before_cleaning(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
        passing(Point.INDEX_REFRESHED)
    before = table.live_files()
    crowded = _crowded(view, before, _held(pipeline, before.keys(), retention_hours))
    compacted = crowded if dry_run else _compact(pipeline, crowded)
    vacuumed = _vacuum(table.path, retention_hours, dry_run=dry_run)
    table.refresh()
    left = _left(pipeline, table, retention_hours, log_hours, below)
    if not dry_run:
        _remove(pipeline, left)
    return Upkeep(
        pipeline=pipeline.name,
        compacted=tuple(compacted),
        files_before=len(before),
        files_after=len(table.live_files()),
        vacuumed=vacuumed,
        orphans=len(left.orphans),
        runs_forgotten=left.runs,
        log_cleaned=len(left.commits),
        log_kept_for=left.kept_for,
        dry_run=dry_run,
        expired=gone.intervals,
        expired_rows=gone.rows,
        expired_bytes=gone.size,
        states=keep_states(view, retention_hours=retention_hours, now=now, dry_run=dry_run),
        beside=keep_beside(
            pipeline,
            retention_hours=retention_hours,
            log_hours=log_hours,
            below=below_beside,
            dry_run=dry_run,
        ),
    )


def _check_retention(hours: int) -> None:
    if hours < _MIN_RETENTION_HOURS:
        raise PlanError(
            f"a retention of {hours} hours would take files from under readers and undo",
            next_step=f"keep at least {_MIN_RETENTION_HOURS} hours",
        )


def _vacuum(table: str, retention_hours: int, *, dry_run: bool) -> int:
    """Write a checkpoint of the log, and delete the files that it has not named within the retention; how many those are."""
    delta = look(table)
    if not dry_run:
        with of_deltalake(table):
            delta.create_checkpoint()
        passing(Point.LOG_CHECKPOINTED)
    with of_deltalake(table):
        old = delta.vacuum(retention_hours=retention_hours, dry_run=dry_run, enforce_retention_duration=False)
    passing(Point.VACUUMED)
    return len(old)


@dataclass(frozen=True, slots=True)
class _Left:
    """What nobody needs any more. ``kept_for``: the pipelines below for which older commits stay."""

    orphans: tuple[Place, ...]
    runs: tuple[str, ...]
    commits: tuple[Place, ...]
    kept_for: tuple[str, ...]


def _left(
    pipeline: Pipeline, table: LogTable, retention_hours: int, log_hours: int, below: Mapping[str, int]
) -> _Left:
    runs = _old_runs(pipeline, retention_hours)
    # The log says which files were removed within the retention.
    first = cleaning.first_needed(table.path, time.time() - max(log_hours, retention_hours) * 3600)
    return _Left(
        orphans=tuple(_orphans(pipeline, table, retention_hours, set(runs))),
        runs=tuple(runs),
        commits=tuple(cleaning.not_needed(table.path, min([first, *below.values()]))),
        kept_for=tuple(sorted(name for name, version in below.items() if version < first)),
    )


def _remove(pipeline: Pipeline, left: _Left) -> None:
    for path in (*left.orphans, *(RunFolder(pipeline.table.state_path, run).path for run in left.runs)):
        remove_tree(path)
    _clean_log(left.commits)


def _clean_log(files: Iterable[Place]) -> None:
    for path in files:
        path.unlink(missing_ok=True)
        passing(Point.LOG_FILE_CLEANED)


def _table(pipeline: Pipeline) -> LogTable:
    chosen = writer.choose(pipeline.table.path)
    if chosen.kind == "spark":
        raise PlanError(
            f"{pipeline.name}: {chosen.why}; upkeep without a JVM does not know how to keep that",
            next_step=f"use Spark: OPTIMIZE delta.`{pipeline.table.path}`, then VACUUM, which keeps 7 days",
        )
    table = LogTable.open(pipeline.table.path, pipeline.grain)
    if table is None:
        raise PlanError(f"{pipeline.name} has no table yet", next_step="run it first")
    return table


def _crowded(view: View, files: Mapping[str, DataFile], held: Collection[str]) -> list[str]:
    """Intervals of many files that neither the live stream nor a run (``held``) may yet find rewritten."""
    counts: dict[str, int] = {}
    for file in files.values():
        counts[file.label] = counts.get(file.label, 0) + 1
    still_open = {each.interval.label for each in view.judged if each.state.value == "open"}
    return sorted(
        label
        for label, count in counts.items()
        if count >= _SMALL_FILES and label not in still_open and label not in held
    )


def _held(pipeline: Pipeline, live: Collection[str], retention_hours: int) -> set[str]:
    """Intervals of the runs that can yet be published or undone: both replace files by name."""
    state = pipeline.table.state_path
    known = set(list_runs(state)).difference(_old_runs(pipeline, retention_hours))
    manifests = (each for run in known for each in RunFolder(state, run).manifests())
    sides = (files for each in manifests for files in (each.replaced, each.staged))
    return {file.label for files in sides if all(file.path in live for file in files) for file in files}


def _compact(pipeline: Pipeline, labels: list[str]) -> list[str]:
    done = []
    for label in labels:
        table, of_label = look(pipeline.table.path), partition_values(pipeline.grain, label)
        with of_deltalake(pipeline.table.path):
            table.optimize.compact(
                partition_filters=[(name, "=", value) for name, value in of_label.items()] or None,
                commit_properties=CommitProperties(max_commit_retries=10),
            )
        done.append(label)
        passing(Point.COMPACTED)
    return done


def _orphans(pipeline: Pipeline, table: LogTable, retention_hours: int, forgotten: set[str]) -> list[Place]:
    """What crashed runs left, and nothing has touched within the retention: folders of attempts, texts of commits.

    A file that a swap has just replaced is old, and still needed by readers and ``undo``; so are those that a run has
    staged, as long as the run is not ``forgotten``: a long run's first chunks are older than its last.
    """
    needed = {path.partition("/")[0] for path in table.live_files()}
    limit = time.time() - retention_hours * 3600
    needed |= {path.partition("/")[0] for path in log.removed_since(pipeline.table.path, int(limit * 1000))}
    state = pipeline.table.state_path
    for run in set(list_runs(state)) - forgotten:
        needed |= {manifest.attempt for manifest in RunFolder(state, run).manifests()}
    root = place(pipeline.table.path)
    folders = [path for path in root.glob("part-*") if path.is_dir() and path.name not in needed]
    texts = log.log_folder(pipeline.table.path).glob("_commit_*.tmp")
    return [path for path in (*folders, *texts) if newest(path) < limit]


def _old_runs(pipeline: Pipeline, retention_hours: int) -> list[str]:
    limit = time.time() - retention_hours * 3600
    state = pipeline.table.state_path
    return [run for run in list_runs(state) if newest(RunFolder(state, run).path) < limit]
