"""Upsert: within an interval one row a key, the one with the greatest order.

The rule is a maximum, so it neither depends on the order in which rows arrive nor on how they are cut into
batches. Ties of ``order_by`` are broken by a hash of the whole row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import CommitConflict
from tidemill.intervals import Interval
from tidemill.ledger.facts import LiveBatch, with_counts
from tidemill.model import Pipeline
from tidemill.sinks.content import read_files, row_hashes
from tidemill.sinks.files import DataFile, rows_by_label
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.stage import LABEL, label_column
from tidemill.sinks.table import AppVersion
from tidemill.sinks.tables import Table

_ATTEMPTS = 10


def newest(frame: DataFrame, pipeline: Pipeline) -> DataFrame:
    """One row for each interval and key: the one that wins."""
    columns = frame.columns
    first, second = row_hashes(frame.schema.fields)
    order = [F.col(f"`{name}`").desc_nulls_last() for name in pipeline.table.order_by]
    labelled = frame.withColumns({LABEL: label_column(pipeline), "_first": first, "_second": second})
    window = Window.partitionBy(LABEL, *pipeline.table.key).orderBy(
        *order, F.desc("_first"), F.desc("_second")
    )
    ranked = labelled.withColumn("_rank", F.row_number().over(window))
    return ranked.where("_rank = 1").select(*[F.col(f"`{name}`") for name in columns])


def write(
    table: Table, frame: DataFrame, pipeline: Pipeline, only: Sequence[Interval] | None = None
) -> tuple[DataFile, ...]:
    """As :meth:`~tidemill.sinks.tables.Table.stage`, with one row a key."""
    return table.stage(newest(frame, pipeline), pipeline, only)


def publish_merged(
    spark: SparkSession,
    pipeline: Pipeline,
    table: Table,
    schema: T.StructType,
    staged: tuple[DataFile, ...],
    fact: LiveBatch,
    app: AppVersion,
    guard: Callable[[], None],
) -> None:
    """Merge staged rows with what the table holds for their intervals, and publish the result.

    An interval is replaced whole; when another writer came to it meanwhile, it is merged again. ``schema``
    is that of the staged rows.
    Raises :class:`CommitConflict` after ten such attempts.
    """
    labels = {file.label for file in staged}
    for _ in range(_ATTEMPTS):
        table.refresh()
        stands = tuple(file for file in table.live_files().values() if file.label in labels)
        files = _merged(spark, pipeline, table, schema, staged, stands) if stands else staged
        counted = with_counts(fact, rows_by_label(files), rows_by_label(stands))
        try:
            publish(table, Change(files, stands, counted, app, whole=frozenset(labels)), guard)
        except CommitConflict:
            continue
        if stands:
            # The batch's own rows live on in the merged files; these were never published.
            table.discard(staged)
        return
    raise CommitConflict(
        f"{pipeline.name}: other writers kept rewriting the intervals of this batch",
        next_step="start again; nothing of this batch was published",
    )


def _merged(
    spark: SparkSession,
    pipeline: Pipeline,
    table: Table,
    schema: T.StructType,
    staged: tuple[DataFile, ...],
    stands: tuple[DataFile, ...],
) -> tuple[DataFile, ...]:
    both = read_files(spark, pipeline, table, [*staged, *stands], schema).drop(LABEL)
    return write(table, both, pipeline)
