"""Retention: the oldest whole intervals of an archive go, in one commit that says so. No JVM.

Rows that a stream appends meanwhile are in files of their own, and stay. Of each partition the commit says after which
offset the archive is whole from then on: by the rows that go, not by their times, which a producer may have set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow.parquet as pq

from tidemill.errors import CommitConflict
from tidemill.intervals import parse_label
from tidemill.ledger.facts import Expired
from tidemill.model import Pipeline
from tidemill.planning.retention import outdated
from tidemill.protocol import Point, passing
from tidemill.sinks.files import DataFile, rows_by_label
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion, LogTable
from tidemill.storage import parquet, place

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Gone:
    """What retention took, or would take: intervals by label, their rows and bytes."""

    intervals: tuple[str, ...] = ()
    rows: int = 0
    size: int = 0


def expire(pipeline: Pipeline, table: LogTable, now: datetime, *, dry_run: bool) -> Gone:
    """Take the intervals away that the sink's retention does not cover any more; nothing where it declares none.

    Their files stay on disk until they are vacuumed. Raises :class:`CommitConflict` where others rewrote the files five
    times meanwhile.
    """
    for attempt in range(_ATTEMPTS):
        table.refresh()
        files = _outdated(pipeline, table, now)
        gone = Gone(
            tuple(sorted({file.label for file in files})),
            sum(file.rows for file in files),
            sum(file.size for file in files),
        )
        if dry_run or not files:
            return gone
        try:
            _take(pipeline, table, files)
        except CommitConflict:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        passing(Point.EXPIRED)
        return gone
    raise AssertionError  # the last attempt returned or raised


def _outdated(pipeline: Pipeline, table: LogTable, now: datetime) -> tuple[DataFile, ...]:
    retain = pipeline.table.retain
    if retain is None:
        return ()
    live, sizes = table.live_files().values(), dict[str, int]()
    for file in live:
        sizes[file.label] = sizes.get(file.label, 0) + file.size
    old = outdated(retain, {parse_label(table.grain, label): size for label, size in sizes.items()}, now)
    labels = {interval.label for interval in old}
    return tuple(file for file in live if file.label in labels)


def _take(pipeline: Pipeline, table: LogTable, files: tuple[DataFile, ...]) -> None:
    until = max(parse_label(table.grain, file.label).end for file in files)
    fact = Expired(pipeline.name, int(until.timestamp()), rows_by_label(files), _after(table, files))
    app = f"tidemill/{pipeline.name}/retain"
    publish(table, Change((), files, fact, AppVersion(app, (table.app_version(app) or 0) + 1)))


def _after(table: LogTable, files: Iterable[DataFile]) -> dict[str, dict[str, int]]:
    """By topic and partition, the offset after the last of these files'."""
    found: dict[str, dict[str, int]] = {}
    for file in files:
        rows = pq.read_table(
            parquet(place(table.path) / file.path),
            columns=["topic", "partition", "offset"],
            partitioning=None,
        )
        for row in rows.group_by(["topic", "partition"]).aggregate([("offset", "max")]).to_pylist():
            parts, part = found.setdefault(row["topic"], {}), str(row["partition"])
            parts[part] = max(parts.get(part, 0), row["offset_max"] + 1)
    return found
