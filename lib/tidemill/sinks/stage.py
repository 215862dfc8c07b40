"""Writes a frame as parquet files that no reader sees until a commit names them.

Each attempt has a folder of its own under the table's root. Spark's committer moves a task's files there
only when the job commits, so the folder holds what the job committed and nothing else; a failed or
speculative attempt leaves its files in ``_temporary``, which the job's end removes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import ConfigError, TransformError
from tidemill.folds.carry import STATE
from tidemill.intervals import ALL_LABEL, Grain, Interval
from tidemill.model import Pipeline
from tidemill.model.expectations import Runs
from tidemill.model.quality import Action
from tidemill.quality.watch import SET_ASIDE
from tidemill.sinks.files import DataFile, partition_type
from tidemill.sinks.stats import read_stats
from tidemill.storage import parquet, place, walk

if TYPE_CHECKING:
    from tidemill.sinks.tables import Table

LABEL = "_tidemill_interval"
"""The column in which a frame carries the label of each row's interval; never written."""
OF_STATES = "tidemill_of_states"
"""The column that parts a fold's states from its rows as both are written."""
_SPARK_FORMATS = {Grain.HOUR: "yyyy-MM-dd'T'HH", Grain.DAY: "yyyy-MM-dd", Grain.MONTH: "yyyy-MM"}


def label_column(pipeline: Pipeline) -> Column:
    """The label of the interval of each row."""
    if pipeline.grain is Grain.ALL:
        return F.lit(ALL_LABEL)
    return label_of(F.col(pipeline.interval_column), pipeline.grain)


def label_of(moment: Column, grain: Grain) -> Column:
    """The label of the interval that a moment is in."""
    if grain is Grain.ALL:
        return F.lit(ALL_LABEL)
    if grain is Grain.DAY:
        return F.to_date(moment).cast("string")
    return F.date_format(moment, _SPARK_FORMATS[grain])


def check_columns(frame: DataFrame, pipeline: Pipeline) -> None:
    """Refuse a frame that the sink cannot place. Raises :class:`TransformError` naming the column."""
    kinds = {field.name: field.dataType for field in frame.schema.fields}
    if pipeline.grain is not Grain.ALL:
        _check_placing(kinds, pipeline)
    for name in kinds:
        if name.lower().startswith("_tidemill_") or name.lower() in {SET_ASIDE, OF_STATES}:
            raise TransformError(
                f"{pipeline.name}: the transform's output has a column {name!r}, which is a name that the engine uses itself",
                next_step="drop or rename it in the transform",
                column=name,
            )
    for key in (*pipeline.table.key, *pipeline.table.order_by):
        if key not in kinds:
            raise TransformError(
                f"{pipeline.name}: the sink's key or order_by names {key!r}, which the output does not have",
                next_step=f"the output has {', '.join(kinds)}",
                column=key,
            )


def _check_placing(kinds: Mapping[str, T.DataType], pipeline: Pipeline) -> None:
    column = pipeline.interval_column
    if column not in kinds:
        raise TransformError(
            f"{pipeline.name}: the transform's output has no column {column!r}, which places a row in its interval",
            next_step=f"keep {column!r}, or name another with interval: {{grain: ..., column: ...}}; "
            f"the output has {', '.join(kinds)}",
            column=column,
        )
    if not isinstance(kinds[column], (T.TimestampType, T.DateType)):
        raise TransformError(
            f"{pipeline.name}: the interval column {column!r} is {kinds[column].simpleString()}, not a timestamp",
            next_step="cast it in the transform",
            column=column,
        )
    if pipeline.partition_column in kinds:
        raise TransformError(
            f"{pipeline.name}: the transform's output has a column {pipeline.partition_column!r}, "
            "which the engine adds itself",
            next_step="drop or rename it in the transform",
            column=pipeline.partition_column,
        )


def check_rules(table: Table, pipeline: Pipeline) -> None:
    """Refuse rules that the table's writer cannot carry out. Raises :class:`ConfigError`."""
    for each in pipeline.quality.suite.expectations if pipeline.quality.suite else ():
        what = f"{each.where}: {each.id}"
        if each.action is Action.QUARANTINE and not table.parts_rows:
            raise ConfigError(
                f"{what} quarantines rows of the table, and {table.path} needs Spark's own Delta writer, which cannot set "
                "rows aside as it writes",
                next_step="use drop or fail, or move the expectation to quality.inputs",
                pipeline=pipeline.name,
            )
        if each.runs is Runs.FILES and not table.parts_rows:
            raise ConfigError(
                f"{what} is answered by the files, and those of {table.path} are not all there is: it needs Spark's own "
                "Delta writer",
                next_step="leave within: out; GX answers it then, at the gate of a backfill",
                pipeline=pipeline.name,
            )


def table_schema(frame: DataFrame, pipeline: Pipeline) -> dict[str, Any]:
    """The table's schema for this output, in Spark's (and Delta's) JSON; every column may be null."""
    body: dict[str, Any] = json.loads(frame.schema.json())
    fields = [_nullable(field) for field in body["fields"]]
    for name in pipeline.grain.columns:
        added = {"name": name, "type": partition_type(pipeline.grain)}
        fields.append({**added, "nullable": True, "metadata": {}})
    return {"type": "struct", "fields": fields}


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    kind = field["type"]
    if isinstance(kind, dict) and kind["type"] == "struct":
        kind = {**kind, "fields": [_nullable(inner) for inner in kind["fields"]]}
    return {**field, "type": kind, "nullable": True, "metadata": {}}


def placed(frame: DataFrame, pipeline: Pipeline) -> DataFrame:
    """The frame with a column that names each row's folder; streams too. As it is where the table has no partitions."""
    if pipeline.grain is Grain.ALL:
        return frame
    moment = F.col(pipeline.interval_column)
    if STATE in frame.columns:
        frame = frame.withColumn(OF_STATES, F.col(STATE).isNotNull())
        moment = F.coalesce(F.col(STATE)["at"], moment)
    return frame.withColumn(pipeline.partition_column, folder_of(moment, pipeline.grain))


def folder_of(moment: Column, grain: Grain) -> Column:
    """What names the folder of a moment's interval."""
    # As a date, so that its text is made for each folder and not for each row.
    return F.to_date(moment) if grain is Grain.DAY else label_of(moment, grain)


def write(frame: DataFrame, pipeline: Pipeline, schema: Mapping[str, Any]) -> tuple[DataFile, ...]:
    """Run a :func:`placed` frame once and write its rows, by interval; give the files, measured.

    ``schema`` is the table's, as Spark writes it in JSON. Rows that :data:`SET_ASIDE` marks have files of their own,
    see :func:`parted`. Raises :class:`TransformError` when a row has no interval. One Spark job; nothing is visible to
    readers of the table.
    """
    attempt = f"part-{uuid.uuid4().hex[:16]}"
    folder = f"{pipeline.table.path.rstrip('/')}/{attempt}"
    marked = [name for name in (OF_STATES, SET_ASIDE) if name in frame.columns]
    frame.write.partitionBy(*marked, *pipeline.grain.columns).parquet(folder)
    return measure(pipeline, attempt, schema)


def parted(files: Sequence[DataFile]) -> tuple[tuple[DataFile, ...], tuple[DataFile, ...]]:
    """Staged files parted in two: those with rows of the table, and those with rows that rules set aside."""
    aside = tuple(file for file in files if f"/{SET_ASIDE}=true/" in file.path)
    return tuple(file for file in files if file not in aside), aside


def without_states(files: Sequence[DataFile]) -> tuple[tuple[DataFile, ...], tuple[DataFile, ...]]:
    """Staged files parted in two: those with rows, and those with a fold's states, see :mod:`tidemill.folds.carry`."""
    states = tuple(file for file in files if f"/{OF_STATES}=true/" in file.path)
    return tuple(file for file in files if file not in states), states


def within(pipeline: Pipeline, intervals: Sequence[Interval]) -> Column:
    """Whether a row's interval is among these; neighbours make one range, so plans stay small."""
    if pipeline.grain is Grain.ALL:
        return F.lit(bool(intervals))
    moment = F.col(pipeline.interval_column)
    condition = F.lit(False)  # a column, not a flag
    for start, end in ranges(intervals):
        condition = condition | ((moment >= F.lit(start)) & (moment < F.lit(end)))
    return condition


def ranges(intervals: Sequence[Interval]) -> list[tuple[Any, Any]]:
    """Intervals merged into as few half-open ranges as cover exactly them."""
    merged: list[tuple[Any, Any]] = []
    for each in sorted(set(intervals)):
        if merged and merged[-1][1] == each.start:
            merged[-1] = (merged[-1][0], each.end)
        else:
            merged.append((each.start, each.end))
    return merged


def measure(
    pipeline: Pipeline, attempt: str, schema: Mapping[str, Any], table: str | None = None
) -> tuple[DataFile, ...]:
    """The files of one attempt's folder with size, rows and statistics; ``table``: below another root than the sink's."""
    root = place(table or pipeline.table.path) / attempt
    found = []
    for file in walk(root):
        label = _label(file.path, pipeline)
        if label is None or not file.path.endswith(".parquet"):
            continue
        if label == "__HIVE_DEFAULT_PARTITION__":
            raise TransformError(
                f"{pipeline.name}: the transform gave rows whose {pipeline.interval_column!r} is null",
                next_step="filter them, or give them a time, in the transform",
                column=pipeline.interval_column,
            )
        rows, stats = read_stats(parquet(root / file.path), schema)
        if rows:
            path = f"{attempt}/{file.path}"
            found.append(DataFile(path, label, file.size, rows, file.modified, stats))
    return tuple(found)


def _label(path: str, pipeline: Pipeline) -> str | None:
    """The label that a file's folder names; None for what the job did not commit."""
    if pipeline.grain is Grain.ALL:
        return None if "_temporary/" in path else ALL_LABEL
    column, _, label = path.rpartition("/")[0].rpartition("/")[2].partition("=")
    return label if column == pipeline.partition_column else None
