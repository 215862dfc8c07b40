"""Upsert: a batch's rows merged into the intervals they belong to, within an interval one row a key."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import SparkSession
from pyspark.sql import types as T

from tidemill.errors import CommitConflict
from tidemill.ledger.facts import LiveBatch, with_counts
from tidemill.model import Pipeline
from tidemill.sinks.content import read_files
from tidemill.sinks.files import DataFile, rows_by_label
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.rows import stage_rows
from tidemill.sinks.stage import LABEL
from tidemill.sinks.table import AppVersion
from tidemill.sinks.tables import Table

_ATTEMPTS = 10


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
    return stage_rows(table, both, pipeline)
