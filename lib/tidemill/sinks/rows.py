"""The rows that a sink takes of a frame: all of them, or with ``upsert`` one a key; staged for its intervals."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from tidemill.model import Pipeline
from tidemill.quality.watch import SET_ASIDE
from tidemill.sinks.content import row_hashes
from tidemill.sinks.files import DataFile
from tidemill.sinks.stage import LABEL, label_column
from tidemill.sinks.tables import Table


def newest(frame: DataFrame, pipeline: Pipeline) -> DataFrame:
    """One row for each interval and key: the one with the greatest order.

    The rule is a maximum, so it neither depends on the order in which rows arrive nor on how they are cut into
    batches. Ties of ``order_by`` are broken by a hash of the whole row. Rows that rules set aside do not compete, and
    all stay.
    """
    columns = frame.columns
    marked = [SET_ASIDE] if SET_ASIDE in columns else []
    first, second = row_hashes([field for field in frame.schema.fields if field.name != SET_ASIDE])
    order = [F.col(f"`{name}`").desc_nulls_last() for name in pipeline.table.order_by]
    labelled = frame.withColumns(
        {LABEL: label_column(pipeline), "_tidemill_first": first, "_tidemill_second": second}
    )
    window = Window.partitionBy(LABEL, *marked, *pipeline.table.key).orderBy(
        *order, F.desc("_tidemill_first"), F.desc("_tidemill_second")
    )
    ranked = labelled.withColumn("_tidemill_rank", F.row_number().over(window))
    wanted = " OR ".join(["_tidemill_rank = 1", *marked])
    return ranked.where(wanted).select(*[F.col(f"`{name}`") for name in columns])


def stage_rows(table: Table, frame: DataFrame, pipeline: Pipeline) -> tuple[DataFile, ...]:
    """Run ``frame`` once and stage what the sink takes of it."""
    rows = newest(frame, pipeline) if pipeline.table.mode == "upsert" else frame
    return table.stage(table.place(rows, pipeline), pipeline)
