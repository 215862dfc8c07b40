"""States at interval ends: staged with a batch's or a chunk's rows, kept in a table beside the sink's, and read from there.

The table's own commits decide nothing. States are committed first, under a name that no attempt shares; the commit of the
rows names them. So a crash between the two leaves states that nothing names, and whoever tries the batch or the chunk again
takes them away. What a swap's states replace goes from the table after the swap.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import CommitConflict
from tidemill.execution.runs import Snapshots
from tidemill.folds.carry import STATE, joined
from tidemill.intervals import Interval, intervals_between
from tidemill.ledger import chain, index
from tidemill.ledger.carried import NOTHING, Carried, apart, names_in
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import LiveBatch
from tidemill.model import Pipeline
from tidemill.protocol import Point, passing
from tidemill.sinks.files import DataFile
from tidemill.sinks.snapshots import files_of, name_of
from tidemill.sinks.stage import folder_of, measure
from tidemill.sinks.states import fitting
from tidemill.sinks.table import AppVersion, LogTable, Raced
from tidemill.sinks.tables import Table
from tidemill.storage import parquet, place
from tidemill.view import shape_of

_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class Beginning:
    """The states that a chunk begins with: a frame of them, None where there are none; and their digest.

    ``digest`` is None where the chunk has to read all there was before: nothing is known to begin with.
    """

    frame: DataFrame | None
    digest: str | None


def beginning(spark: SparkSession, pipeline: Pipeline, coverage: Coverage, first: Interval) -> Beginning:
    """The states at the beginning of an interval, as the table's ledger names them.

    Raises :class:`StateError` when some of them are not there any more.
    """
    found = chain.standing(coverage, pipeline.grain, first)
    joins = found.last is not None and found.last.end == first.start
    if not coverage.live and not (coverage.carries and joins):
        return Beginning(None, None)
    if found.digest is None:
        return Beginning(None, None)
    if not found.made or found.digest == NOTHING:
        return Beginning(None, found.digest)
    return Beginning(_newest(spark, pipeline, coverage, first), found.digest)


def _newest(spark: SparkSession, pipeline: Pipeline, coverage: Coverage, first: Interval) -> DataFrame:
    table, files = files_of(pipeline, coverage, first)
    fields = [each for each in table.schema["fields"] if each["name"] != pipeline.partition_column]
    rows = table.read(spark, files, T.StructType.fromJson({"type": "struct", "fields": fields}))
    last = F.max_by(F.struct("state", "gone"), F.col("until")).alias("last")
    return (
        rows.groupBy("key").agg(last).where("NOT last.gone").select("key", F.col("last.state").alias("state"))
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """States that were staged: under which name, in which files, and the difference of digests that each interval makes."""

    name: str
    files: tuple[DataFile, ...]
    differences: Mapping[str, str]


def kept(
    spark: SparkSession,
    pipeline: Pipeline,
    table: Table,
    staged: Sequence[DataFile],
    carried: T.DataType,
    name: str | None,
) -> Kept:
    """Bring states that were staged beside rows to files of their own table; no reader sees them. One Spark job.

    ``carried``: the type of the column they came in. ``name``: whose they are; that of the files begins with it; None:
    nothing is kept.
    """
    differences = _differences(table, staged)
    if name is None or not staged:
        return Kept("", (), differences)
    wide = table.read(spark, staged, T.StructType([T.StructField(STATE, carried)]))
    at = F.col(STATE)["at"]
    until = at + F.expr(f"INTERVAL 1 {pipeline.grain.value.upper()}")
    columns = [F.col(STATE)[part].alias(part) for part in ("key", "state", "gone")]
    rows = wide.select(
        until.alias("until"), *columns, folder_of(at, pipeline.grain).alias(pipeline.partition_column)
    )
    states = fitting(rows.drop(pipeline.partition_column), pipeline)
    attempt = f"{name}-{uuid.uuid4().hex[:8]}"
    writer = rows.repartition(pipeline.partition_column).write.partitionBy(pipeline.partition_column)
    writer.parquet(f"{pipeline.states_path}/{attempt}")
    return Kept(attempt, measure(pipeline, attempt, states.schema, pipeline.states_path), differences)


def _differences(table: Table, staged: Iterable[DataFile]) -> dict[str, str]:
    found: dict[str, str] = {}
    halves = [f"{STATE}.first", f"{STATE}.second"]
    for file in staged:
        both = [np.int64(0), np.int64(0)]
        for batch in pq.ParquetFile(_file(table, file)).iter_batches(columns=halves):
            for i, column in enumerate(batch.column(0).flatten()):
                both[i] ^= np.bitwise_xor.reduce(column.to_numpy())
        now = joined(int(both[0]), int(both[1])).hex()
        found[file.label] = apart(found.get(file.label, NOTHING), now)
    return found


def _file(table: Table, file: DataFile) -> Any:
    return parquet(place(table.path) / file.path)


def of_chunk(
    pipeline: Pipeline,
    begun: str | None,
    intervals: Sequence[Interval],
    found: Kept,
    coverage: Coverage,
) -> Snapshots:
    """What a chunk began and ended with, interval by interval, and what that takes the place of."""
    state, states = begun or NOTHING, {}
    before = begun
    for each in intervals_between(pipeline.grain, min(intervals).start, max(intervals).end):
        change = found.differences.get(each.label)
        state = state if change is None else apart(state, change)
        states[each.label] = Carried(before, state, None if change is None else found.name)
        before = state
    states = {each.label: states[each.label] for each in intervals}
    known = coverage.intervals
    names = {label: chain.made_of(known[label]) for label in states if label in known}
    replaced = {label: name for label, name in names.items() if name is not None}
    stood = chain.ends(coverage, pipeline.grain, sorted(intervals))
    agrees = None
    for each in sorted(intervals, reverse=True):
        if stood[each.label] != states[each.label].after:
            break
        agrees = each.label
    return Snapshots(found.name, found.files, states, replaced, agrees)


NO_END = Snapshots("", (), {}, {})
"""Of a chunk that does not come to the end of an interval."""


def publish(pipeline: Pipeline, name: str, files: tuple[DataFile, ...], mine: str | None) -> None:
    """Commit states under a name, once; nothing is said of them until a commit of the sink's table names them.

    ``mine``: how the names of earlier attempts begin, which go, but for those that the sink's table names: a run that was
    undone left them, and they count until others are named. None where there were none.
    """
    if not files and mine is None:
        return
    if mine is None:
        commit(pipeline, AppVersion(f"tidemill/{name}", 1), lambda _: (files, ()))
    else:
        commit(pipeline, None, lambda table: _anew(table, name, files, mine, named(pipeline)))
    passing(Point.STATES_KEPT)


def _anew(
    table: LogTable, name: str, files: tuple[DataFile, ...], mine: str, needed: frozenset[str]
) -> tuple[Sequence[DataFile], Sequence[DataFile]]:
    live = table.live_files()
    tried = [file for path, file in live.items() if path.startswith(f"{mine}-")]
    fresh = [file for file in files if file.path not in live]
    return fresh, [file for file in tried if name_of(file) not in {name, *needed}]


def named(pipeline: Pipeline) -> frozenset[str]:
    """The names under which states are kept that count, as the sink's ledger has it now."""
    coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
    return frozenset(name for each in coverage.intervals.values() for name in names_in(chain.made_of(each)))


def forget(pipeline: Pipeline, found: Snapshots) -> None:
    """Take the states away that a published chunk's have replaced."""
    if not found.replaced:
        return

    def change(table: LogTable) -> tuple[Sequence[DataFile], Sequence[DataFile]]:
        live = table.live_files().values()
        gone = [f for f in live if name_of(f) in names_in(found.replaced.get(f.label))]
        return (), [file for file in gone if name_of(file) != found.name]

    commit(pipeline, None, change)
    passing(Point.STATES_FORGOTTEN)


def commit(
    pipeline: Pipeline,
    app: AppVersion | None,
    change: Callable[[LogTable], tuple[Sequence[DataFile], Sequence[DataFile]]],
) -> None:
    """One commit of the table of states, of the files that ``change`` wants to come and to go, once for ``app``."""
    table = LogTable.open(pipeline.states_path, pipeline.grain)
    if table is None:
        return
    text = json.dumps({"states of": pipeline.name})
    for _ in range(_ATTEMPTS):
        table.refresh()
        if app is not None and (table.app_version(app.app) or 0) >= app.version:
            return
        add, remove = change(table)
        if not add and not remove:
            return
        once = app or AppVersion(f"tidemill/{uuid.uuid4().hex}", 1)
        try:
            table.commit(add, remove, text, once, int(time.time() * 1000))
        except Raced:
            continue
        return
    raise CommitConflict(
        f"{table.path}: {_ATTEMPTS} commits by others came first", next_step="run it again", table=table.path
    )


@dataclass(frozen=True, slots=True)
class States:
    """The states that a stream gives beside its rows. ``output``: the frame in which they come."""

    spark: SparkSession
    pipeline: Pipeline
    table: Table
    output: DataFrame

    def kept(self, fact: LiveBatch, staged: Sequence[DataFile], *, again: bool) -> LiveBatch:
        """Commit the states that a batch has staged, and give its fact, which names them.

        ``again``: the batch may have been tried before, by a run that crashed.
        """
        mine = f"{fact.query[:8]}-{fact.batch}"
        found = None
        if staged:
            kind = self.output.schema[STATE].dataType
            found = kept(self.spark, self.pipeline, self.table, staged, kind, mine)
        name, files = (found.name, found.files) if found is not None else ("", ())
        publish(self.pipeline, name, files, mine if again else None)
        self.table.discard(staged)
        given = {} if found is None else {label: (d, name) for label, d in found.differences.items()}
        return replace(fact, carries=True, states=given)
