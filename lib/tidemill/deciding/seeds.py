"""Where aggregates stand by the events of a store, kept for a stream whose own states do not hold: the code has changed since
they were made, or they are lost with their checkpoint.

A seed is a folder of parquet files, an aggregate a row, in parts by a hash of its key. A task reads the part of the first
aggregate that it meets whose state is not of the seed's code.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.deciding.carried import carried, opened
from tidemill.errors import StateError
from tidemill.eventsourcing import CommandEnvelope, Domain, EventEnvelope, Standing, folded
from tidemill.eventsourcing.envelope import COMMAND_COLUMNS, EVENT_COLUMNS
from tidemill.eventsourcing.interpreter import digest, mark_of, remembered
from tidemill.storage import parquet, place, walk

PARTS = 64
PART = "part"
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
        ("seen", pa.binary()),
        ("problem", pa.string()),
    ]
)
_DDL = f"{PART} INT, aggregate STRING, subject STRING, version BIGINT, time BIGINT, state STRING, seen BINARY, problem STRING"
_ONLY_REFUSED = ("kind", "expectedversion")


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


def plant(events: DataFrame, refused: DataFrame, domain: Domain, folder: str) -> None:
    """Fold an event store, with its table of rejections, into a seed.

    An aggregate that cannot be read, one of its events being of a newer schema for instance, is kept with the reason: its
    commands are refused, the others' are not.
    """
    plain = [F.col(name) for name in EVENT_COLUMNS]
    made = events.select(
        *plain,
        *[F.lit(None).cast(t).alias(n) for n, t in zip(_ONLY_REFUSED, ("string", "long"), strict=True)],
    )
    known = made.unionByName(refused.select(*plain, *_ONLY_REFUSED))
    keyed = known.withColumns(
        {name: F.coalesce(F.col(name), F.lit("")).alias(name) for name in ("aggregate", "subject")}
    )
    ordered = keyed.repartition("aggregate", "subject").sortWithinPartitions(
        "aggregate", "subject", F.col("kind").isNotNull(), "version"
    )
    rows = ordered.mapInArrow(_Planted(carried(domain)), _DDL)
    rows.write.partitionBy(PART).parquet(folder)
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
    """An aggregate's events first, by version, then what was refused of it."""
    marks: list[bytes] = []

    def events() -> Iterator[EventEnvelope]:
        for row in rows:
            marks.append(_mark(row))
            if row["kind"] is not None:
                return
            yield EventEnvelope(**{name: row[name] for name in EVENT_COLUMNS})

    standing, problem = Standing(), ""
    try:
        standing = folded(domain, events(), standing)
    except StateError as error:
        problem = error.message
    marks.extend(_mark(row) for row in rows)
    return remembered(standing, marks)._replace(problem=problem)


def _mark(row: dict[str, Any]) -> bytes:
    return mark_of(row["causationid"]) if row["kind"] is None else digest(command_of(row))


def command_of(row: dict[str, Any]) -> CommandEnvelope:
    """The command of a row of the table of rejections."""
    values = {name: row.get(name) for name in COMMAND_COLUMNS}
    values["data"] = values["data"] or ""
    return CommandEnvelope(**values)  # type: ignore[arg-type]  # the columns are of these types


def _part_of(aggregate: str, subject: str) -> int:
    return zlib.crc32(f"{aggregate}/{subject}".encode()) % PARTS


@lru_cache(maxsize=PARTS)
def _part(folder: str, part: int) -> dict[tuple[str, str], Standing]:
    found: dict[tuple[str, str], Standing] = {}
    if not (place(folder) / WHOLE).is_file():
        # Another start has planted anew: to take aggregates for new ones would be to decide everything again.
        raise StateError(f"the seed {folder} is not there any more", next_step="start again", folder=folder)
    root = place(folder) / f"{PART}={part}"
    for file in walk(root):
        if file.path.endswith(".parquet"):
            # The file alone: its folder's name would be taken for a column.
            for row in pq.ParquetFile(parquet(root / file.path)).read().to_pylist():
                values = (row[name] for name in Standing._fields)
                found[row["aggregate"], row["subject"]] = Standing(*values)
    return found
