"""Opens a pipeline's table for writing, when the pipeline's output fits it."""

from __future__ import annotations

from pyspark.sql import DataFrame

from tidemill.errors import StateError
from tidemill.model import Pipeline
from tidemill.sinks import stage
from tidemill.sinks.table import LogTable


def open_table(frame: DataFrame, pipeline: Pipeline) -> LogTable:
    """The sink's table, created when it is not there.

    Raises :class:`StateError` when it is there with other columns or another grain.
    """
    wanted = stage.table_schema(frame, pipeline)
    table = LogTable.create(pipeline.table.path, pipeline.grain, wanted)
    have = {f["name"]: f["type"] for f in table.schema["fields"]}
    want = {f["name"]: f["type"] for f in wanted["fields"]}
    if table.partition_columns != [pipeline.partition_column]:
        raise StateError(
            f"{pipeline.table.path} is partitioned by {', '.join(table.partition_columns) or 'nothing'}, and "
            f"{pipeline.name} writes intervals of a {pipeline.grain}",
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
