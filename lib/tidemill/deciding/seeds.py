"""Where aggregates stand by the events of a store, and which commands it knows, kept for a stream whose own states do not hold:
the code has changed since they were made, or they are lost with their checkpoint.

A seed is a folder. Below ``part=N`` are parquet files, an aggregate a row, in parts by a hash of its key: a task reads the part
of the first aggregate that it meets whose state is not of the seed's code. Below ``marks`` are the marks of commands, sorted, in
a file for each first byte: a task looks one up on disk, and holds none in memory.
"""

from __future__ import annotations

import mmap
import secrets
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.deciding.carried import carried, opened
from tidemill.deciding.marks import MARK, mark, mark_of_event
from tidemill.errors import StateError
from tidemill.eventsourcing import CommandEnvelope, Domain, EventEnvelope, Standing, folded
from tidemill.eventsourcing.envelope import COMMAND_COLUMNS, EVENT_COLUMNS
from tidemill.folds.once import WIDTH
from tidemill.storage import parquet, place, walk

PARTS = 64
PART = "part"
MARKS = "marks"
WHOLE = "_WHOLE"
"""The file in a seed's folder that says that all of it is there. Spark's own is not written: sessions are set so."""
_SCHEMA = pa.schema(
    [
        (PART, pa.int32()),
        ("aggregate", pa.string()),
        ("subject", pa.string()),
        ("version", pa.int64()),
        ("time", pa.int64()),
        ("state", pa.string()),
        ("problem", pa.string()),
    ]
)
_DDL = (
    f"{PART} INT, aggregate STRING, subject STRING, version BIGINT, time BIGINT, state STRING, problem STRING"
)


@dataclass(frozen=True)
class Seed:
    """``code``: names today's states. ``folder``: where aggregates of other states are looked up; None: nowhere."""

    code: str
    folder: str | None = None


NO_SEED = Seed("today")
"""Of a frame that continues nothing."""


def standing_of(seed: Seed, aggregate: str, subject: str) -> Standing:
    """Where an aggregate stands by the events; the beginning where it has none."""
    if seed.folder is None:
        return Standing()
    return _part(seed.folder, _part_of(aggregate, subject)).get((aggregate, subject), Standing())


def is_known(seed: Seed, value: bytes) -> bool:
    """Whether the command of a mark was decided before the seed was planted."""
    if seed.folder is None:
        return False
    marks = _marks(seed.folder, value[0])
    at = bisect_left(marks, value)
    return at < len(marks) and marks[at] == value


def plant(events: DataFrame, refused: DataFrame, domain: Domain, folder: str) -> None:
    """Fold an event store, with its table of rejections, into a seed.

    An aggregate that cannot be read, one of its events being of a newer schema for instance, is kept with the reason: its
    commands are refused, the others' are not.
    """
    ordered = (
        events.select(*EVENT_COLUMNS)
        .repartition("aggregate", "subject")
        .sortWithinPartitions("aggregate", "subject", "version")
    )
    rows = ordered.mapInArrow(_Planted(carried(domain)), _DDL)
    rows.write.partitionBy(PART).parquet(folder)
    values = {name: F.col(name) for name in COMMAND_COLUMNS}
    of_refused = mark(F.coalesce(F.col("aggregate"), F.lit("")), values)
    marks = events.select(mark_of_event().alias(MARK)).union(refused.select(of_refused.alias(MARK)))
    sorted_marks = marks.repartition(F.substring(MARK, 1, 1)).sortWithinPartitions(MARK)
    (Path(folder) / MARKS).mkdir()
    sorted_marks.mapInArrow(_Listed(str(Path(folder) / MARKS)), "file STRING").collect()
    (place(folder) / WHOLE).write_text("", encoding="utf-8")


@dataclass(frozen=True)
class _Planted:
    domain: bytes

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        domain = opened(self.domain)
        rows = (row for batch in batches for row in batch.to_pylist())
        ready: list[dict[str, Any]] = []
        for key, group in groupby(rows, key=itemgetter("aggregate", "subject")):
            standing = _planted(domain, group)
            values = (_part_of(*key), *key, *standing)
            ready.append(dict(zip(_SCHEMA.names, values, strict=True)))
            if len(ready) == 1024:
                yield pa.RecordBatch.from_pylist(ready, _SCHEMA)
                ready = []
        if ready:
            yield pa.RecordBatch.from_pylist(ready, _SCHEMA)


def _planted(domain: Domain, rows: Iterator[dict[str, Any]]) -> Standing:
    """Where an aggregate's events, by version, leave it; with why, where they cannot be read to their end."""
    version = 0

    def events() -> Iterator[EventEnvelope]:
        nonlocal version
        for row in rows:
            version = row["version"]
            yield EventEnvelope(**{name: row[name] for name in EVENT_COLUMNS})

    every = events()
    try:
        return folded(domain, every)
    except StateError as error:
        for _ in every:
            pass
        return Standing(version=version, problem=error.message)


@dataclass(frozen=True)
class _Listed:
    """Writes sorted marks, a file for each first byte; a task has all of a byte's. Done again, it writes the same."""

    folder: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        values = (value for batch in batches for value in batch.column(0).to_pylist())
        for first, group in groupby(values, key=itemgetter(0)):
            path = Path(self.folder) / f"{first:02x}"
            hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            with hidden.open("wb") as file:
                for value, _ in groupby(group):  # several events of one command have one mark
                    file.write(value)
            hidden.replace(path)
            yield pa.RecordBatch.from_arrays([pa.array([path.name])], names=["file"])


def command_of(row: dict[str, Any]) -> CommandEnvelope:
    """The command of a row of the table of rejections."""
    values = {name: row.get(name) for name in COMMAND_COLUMNS}
    values["data"] = values["data"] or ""
    return CommandEnvelope(**values)  # type: ignore[arg-type]  # the columns are of these types


def _part_of(aggregate: str, subject: str) -> int:
    return zlib.crc32(f"{aggregate}/{subject}".encode()) % PARTS


def _check_whole(folder: str) -> None:
    if not (place(folder) / WHOLE).is_file():
        # Another start has planted anew: to take aggregates for new ones would be to decide everything again.
        raise StateError(f"the seed {folder} is not there any more", next_step="start again", folder=folder)


@lru_cache(maxsize=PARTS)
def _part(folder: str, part: int) -> dict[tuple[str, str], Standing]:
    found: dict[tuple[str, str], Standing] = {}
    _check_whole(folder)
    root = place(folder) / f"{PART}={part}"
    for file in walk(root):
        if file.path.endswith(".parquet"):
            # The file alone: its folder's name would be taken for a column.
            for row in pq.ParquetFile(parquet(root / file.path)).read().to_pylist():
                values = (row[name] for name in Standing._fields)
                found[row["aggregate"], row["subject"]] = Standing(*values)
    return found


class _Marks(Sequence[bytes]):
    """The sorted marks of a file. Where the system reads it from disk, it is the system's memory."""

    def __init__(self, path: Path) -> None:
        self._bytes: mmap.mmap | bytes = b""
        if path.is_file():
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._bytes) // WIDTH

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        return self._bytes[at * WIDTH : (at + 1) * WIDTH]


@lru_cache(maxsize=256)
def _marks(folder: str, first: int) -> _Marks:
    _check_whole(folder)
    return _Marks(Path(folder) / MARKS / f"{first:02x}")
