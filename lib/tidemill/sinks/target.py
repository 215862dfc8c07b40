"""Opens a pipeline's table for writing, with the writer that it needs, when the pipeline's output fits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from tidemill.errors import StateError
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.model import Pipeline
from tidemill.sinks import stage, writer
from tidemill.sinks.spark_table import SparkTable
from tidemill.sinks.table import LogTable
from tidemill.sinks.tables import Table
from tidemill.storage import check_conditions, on_a_store


def reopen(pipeline: Pipeline, spark: Callable[[], SparkSession]) -> Table | None:
    """The sink's table as it is, or None; ``spark`` is asked only when the table needs Spark's writer.

    Raises :class:`StateError` for a table on a store that needs that writer.
    """
    path, grain = pipeline.table.path, pipeline.grain
    if not log.exists(path):
        return None
    chosen = writer.choose(path)
    if chosen.kind == "spark":
        if on_a_store(path):
            # Delta's own log stores overwrite each other's commits there.
            raise StateError(
                f"{path}: {chosen.why}, which needs Spark's Delta writer; on a store that is safe for one process only",
                next_step="take the feature from the table, or keep the table on a file system",
                table=path,
            )
        return SparkTable(spark(), path, grain)
    return LogTable(path, grain)


def open_table(frame: DataFrame, pipeline: Pipeline) -> Table:
    """The sink's table, created when it is not there.

    Raises :class:`StateError` when it is there with other columns or another grain, :class:`StoreError` when it is on a store
    that ignores the conditions of writes: known before anything is computed for it.
    """
    check_conditions(pipeline.table.path)
    wanted = stage.table_schema(frame, pipeline)
    table = reopen(pipeline, lambda: frame.sparkSession)
    if table is None:
        table = LogTable.create(pipeline.table.path, pipeline.grain, wanted)
    # Delta itself checks nulls as it writes, and keeps its names for columns in the types.
    shape = _bare if isinstance(table, SparkTable) else _same
    want = {f["name"]: shape(f["type"]) for f in wanted["fields"]}
    have = {
        f["name"]: shape(f["type"])
        for f in table.schema["fields"]
        if f["name"] in want or f["name"] not in table.computed
    }
    if table.partition_columns != pipeline.grain.columns:
        raise StateError(
            f"{pipeline.table.path} is partitioned by {', '.join(table.partition_columns) or 'nothing'}, and "
            f"{pipeline.name} writes {_intervals(pipeline.grain)}",
            next_step="give the pipeline a new table: an interval's grain cannot change in place",
        )
    if have != want:
        gone, new = sorted(have.keys() - want.keys()), sorted(want.keys() - have.keys())
        other = sorted(name for name in have.keys() & want.keys() if have[name] != want[name])
        parts = [
            f"{what} {', '.join(names)}"
            for what, names in (("without", gone), ("with the new", new), ("with another type for", other))
            if names
        ]
        raise StateError(
            f"{pipeline.name}: the transform's output does not fit the table: {'; '.join(parts)}",
            next_step="change the transform back, alter the table, or give the pipeline a new one",
            table=pipeline.table.path,
        )
    return table


def of_log_commits(path: str, what: str) -> None:
    """Raise :class:`StateError` where the table at ``path`` is there and needs Spark's writer; ``what`` takes log commits."""
    chosen = writer.choose(path)
    if chosen.kind == "spark":
        raise StateError(
            f"{what}, which takes log commits, and {path} needs Spark's Delta writer: {chosen.why}",
            next_step="take the feature from the table, or give the pipeline a new one",
            table=path,
        )


def _intervals(grain: Grain) -> str:
    return "one interval, all of time" if grain is Grain.ALL else f"intervals of a {grain}"


def _same(kind: Any) -> Any:
    return kind


def _bare(kind: Any) -> Any:
    """A type without what says nothing of its values: metadata, and where nulls may be."""
    if isinstance(kind, list):
        return [_bare(each) for each in kind]
    if not isinstance(kind, dict):
        return kind
    dropped = {"metadata", "nullable", "containsNull", "valueContainsNull"}
    return {key: _bare(value) for key, value in kind.items() if key not in dropped}
