"""Upkeep of the states at interval ends: the oldest are drawn together, what nothing names goes. No JVM.

Drawing together is one commit: all states at an end come, what changed up to there goes. The name says their digest, so that
a backfill that begins before makes them worth nothing, and never wrong.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.errors import LeaseHeld
from tidemill.execution.runs import RunFolder, list_runs
from tidemill.execution.snapshots import commit
from tidemill.intervals import Interval
from tidemill.ledger import chain, index, log
from tidemill.ledger.carried import names_in
from tidemill.ledger.coverage import sealed
from tidemill.ledger.judge import State
from tidemill.ledger.lease import Lease
from tidemill.model import Pipeline
from tidemill.protocol import Point, passing
from tidemill.sinks.files import DataFile
from tidemill.sinks.snapshots import BASE, base_of, files_of, made_by, name_of
from tidemill.sinks.stats import read_stats
from tidemill.sinks.table import LogTable, look
from tidemill.storage import newest, of_deltalake, parquet, place, remove_tree, writing
from tidemill.view import View, shape_of

_ROWS = 65_536
_KEPT = ("until", "key", "state", "gone")


@dataclass(frozen=True, slots=True)
class StatesKept:
    """What upkeep did: the interval at whose end states were ``drawn`` together, ``unnamed`` files that went, others that
    were ``vacuumed``.
    """

    drawn: str | None = None
    unnamed: int = 0
    vacuumed: int = 0


NONE_KEPT = StatesKept()


def keep_states(view: View, *, retention_hours: int, now: datetime, dry_run: bool) -> StatesKept:
    """Keep the table of states in shape; nothing where there is none. Safe beside live streams and backfills."""
    pipeline = view.pipeline
    table = LogTable.open(pipeline.states_path, pipeline.grain)
    if table is None:
        return NONE_KEPT
    end = _end(view, now)
    drawn = None if end is None else _drawn(view, table, end, dry_run=dry_run)
    passing(Point.STATES_DRAWN)
    unnamed = _unnamed(view, retention_hours)
    if not dry_run and unnamed:
        commit(pipeline, None, lambda _: ((), unnamed))
    with of_deltalake(table.path):
        old = look(table.path).vacuum(
            retention_hours=retention_hours, dry_run=dry_run, enforce_retention_duration=False
        )
    if not dry_run:
        _abandoned(view, retention_hours)
    return StatesKept(drawn, len(unnamed), len(old))


def _end(view: View, now: datetime) -> Interval | None:
    """The last interval whose end is older than states are kept, and that needs nothing before it to be repaired.

    What a run that is known may take back, or publish, may be repaired after that.
    """
    keep = view.pipeline.table.keep_states
    if keep is None or not view.coverage.carries:
        return None
    shape, found = shape_of(view.pipeline), None
    state = view.pipeline.table.state_path
    manifests = (each for run in list_runs(state) for each in RunFolder(state, run).manifests())
    held = {label for each in manifests for label in each.labels}
    for each in view.judged:
        clean = each.state is State.CLEAN and sealed(view.coverage, each.interval, shape)
        if not clean or each.interval.label in held or each.interval.end > now - keep:
            break
        found = each.interval
    return found


def _drawn(view: View, table: LogTable, end: Interval, *, dry_run: bool) -> str | None:
    pipeline, coverage = view.pipeline, view.coverage
    after = Interval(end.end, pipeline.grain.after(end.end), pipeline.grain)
    _, files = files_of(pipeline, coverage, after)
    digest = chain.standing(coverage, pipeline.grain, after).digest
    if len({name_of(file) for file in files}) < 2 or digest is None:
        return None
    if dry_run:
        return end.label
    name = f"{BASE}{digest}-{made_by(coverage, end.label)}-{uuid.uuid4().hex[:8]}"
    try:
        # A backfill that is staging may need what would go.
        with Lease(pipeline.table.state_path, "backfill", what="upkeep of states"):
            return (
                end.label if _same_since(view, end) and _replaced(pipeline, table, files, end, name) else None
            )
    except LeaseHeld:
        return None  # the next upkeep looks again


def _same_since(view: View, end: Interval) -> bool:
    """Whether nothing was computed since the view was made, up to an end."""
    pipeline = view.pipeline
    now = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline)).intervals
    then = view.coverage.intervals
    return all(now.get(label) == then.get(label) for label in {*now, *then} if label <= end.label)


def _replaced(pipeline: Pipeline, table: LogTable, files: list[DataFile], end: Interval, name: str) -> bool:
    fresh = _written(pipeline, table, files, end, name)

    def change(now: LogTable) -> tuple[list[DataFile], list[DataFile]]:
        live = now.live_files()
        if any(file.path not in live for file in files):
            return [], []  # another has come first; the next upkeep looks again
        return [fresh], files

    commit(pipeline, None, change)
    return True


def _written(
    pipeline: Pipeline, table: LogTable, files: list[DataFile], end: Interval, name: str
) -> DataFile:
    """All states of these files in one: of each key, the newest. Memory holds the keys, and one batch."""
    path = f"{name}/{pipeline.partition_column}={end.label}/part-0-{name}.parquet"
    at, schema = place(table.path) / path, _columns(table)
    with writing(at) as file, pq.ParquetWriter(file, schema) as writer:
        for batch in _newest(table, files):
            # Fields were added and widened since.
            writer.write_batch(batch.cast(schema))
    rows, stats = read_stats(parquet(at), table.schema)
    return DataFile(path, end.label, at.stat().st_size, rows, int(time.time() * 1000), stats)


def _columns(table: LogTable) -> pa.Schema:
    known = pa.schema(look(table.path).schema().to_arrow())
    return pa.schema([known.field(name) for name in _KEPT])


def _newest(table: LogTable, files: list[DataFile]) -> Iterator[pa.RecordBatch]:
    seen: set[tuple[Any, ...]] = set()
    for file in sorted(files, key=lambda each: (each.label, not each.path.startswith(BASE)), reverse=True):
        source = pq.ParquetFile(parquet(place(table.path) / file.path))
        for batch in source.iter_batches(batch_size=_ROWS, columns=list(_KEPT)):
            keys = [tuple(key.values()) for key in batch.column("key").to_pylist()]
            fresh = [key not in seen for key in keys]
            seen.update(keys)
            yield batch.filter(pa.array(fresh, pa.bool_()))


def _unnamed(view: View, retention_hours: int) -> list[DataFile]:
    """Files that neither the ledger names nor a run may yet publish, nor a valid base is: what crashes left."""
    pipeline, coverage = view.pipeline, view.coverage
    table = LogTable.open(pipeline.states_path, pipeline.grain)
    live = tuple(table.live_files().values()) if table is not None else ()
    names = {
        (label, name) for label, each in coverage.intervals.items() for name in names_in(chain.made_of(each))
    }
    state = pipeline.table.state_path
    runs = tuple(f"{run}-" for run in list_runs(state))
    limit = (time.time() - retention_hours * 3600) * 1000
    last = max((each.interval for each in view.judged), default=None)
    held: set[str] = set()
    if last is not None:
        after = Interval(last.end, pipeline.grain.after(last.end), pipeline.grain)
        held = {file.path for file in base_of(pipeline, coverage, live, after)}
    return [
        file
        for file in live
        if (file.label, name_of(file)) not in names
        and file.path not in held
        and not file.path.startswith(runs)
        and file.modified < limit
    ]


def _abandoned(view: View, retention_hours: int) -> None:
    """Folders of attempts that no commit names, and nothing has touched within the retention."""
    pipeline = view.pipeline
    table = LogTable.open(pipeline.states_path, pipeline.grain)
    limit = time.time() - retention_hours * 3600
    needed = {name_of(file) for file in table.live_files().values()} if table is not None else set()
    needed |= {path.partition("/")[0] for path in log.removed_since(pipeline.states_path, int(limit * 1000))}
    state = pipeline.table.state_path
    for run in list_runs(state):
        needed |= {each.snapshots.name for each in RunFolder(state, run).manifests() if each.snapshots}
    for path in place(pipeline.states_path).glob("*"):
        if (
            path.is_dir()
            and not path.name.startswith("_")
            and path.name not in needed
            and newest(path) < limit
        ):
            remove_tree(path)
