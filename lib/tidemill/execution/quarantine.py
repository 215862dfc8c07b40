"""Sets bad input rows aside: a Delta table beside the target, exact like the target.

The streaming frame lets only good rows on and counts the bad. When there are any, the batch's input is read
once more, as history, and the bad rows are committed under the batch's number before the batch itself: a
crash between the two commits them once.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.ledger import inputs
from tidemill.ledger.facts import LiveBatch
from tidemill.model import FilesSource, Pipeline
from tidemill.sources.history import pinned_frame
from tidemill.sources.rows import CORRUPT, bad_reason, source_columns


def quarantine_path(pipeline: Pipeline) -> str:
    """Where a pipeline's quarantined rows are."""
    return f"{pipeline.table.path.rstrip('/')}_quarantine"


def set_aside(
    spark: SparkSession,
    pipeline: Pipeline,
    name: str,
    checkpoint: str,
    fact: LiveBatch,
    *,
    app: str,
    version: int,
) -> None:
    """Commit the bad rows of one input of a batch; at most once for ``(app, version)``."""
    rows = bad_rows(_batch_input(spark, pipeline, name, checkpoint, fact), pipeline, name)
    rows = rows.withColumns({"run": F.lit(fact.run), "batch": F.lit(fact.batch).cast("long")})
    (
        rows.write.format("delta")
        .mode("append")
        .option("txnAppId", app)
        .option("txnVersion", version)
        .save(quarantine_path(pipeline))
    )


def bad_rows(frame: DataFrame, pipeline: Pipeline, name: str) -> DataFrame:
    """The rows that cannot be taken in: raw record, reason, and where they came from."""
    reason = bad_reason(frame, pipeline.event_time_of(name).column)
    whole = F.to_json(F.struct(*source_columns(frame)))
    raw = F.coalesce(F.col(CORRUPT), whole) if CORRUPT in frame.columns else whole
    return frame.where(reason.isNotNull()).select(
        F.lit(pipeline.name).alias("pipeline"),
        F.lit(name).alias("input"),
        F.array(reason).alias("reasons"),
        raw.alias("record"),
        F.col("_metadata.file_path").alias("file"),
        F.current_timestamp().alias("at"),
    )


def _batch_input(
    spark: SparkSession, pipeline: Pipeline, name: str, checkpoint: str, fact: LiveBatch
) -> DataFrame:
    start, end = _offset(fact.source_start, name), _offset(fact.source_end, name)
    if isinstance(pipeline.inputs[name].source, FilesSource):
        place = fact.source_end[name]["place"]
        after = int(start["logOffset"]) if start else -1
        files = inputs.files_read(checkpoint, place, after, int(end["logOffset"])) if end else []
        return pinned_frame(spark, pipeline, name, files)
    # A version is the finest range of a table that can be read again; files name the rest.
    paths = inputs.delta_files_between(pipeline.inputs[name].source.path, start, end)
    frame = pinned_frame(spark, pipeline, name, inputs.delta_version_of(end))
    return frame.where(F.element_at(F.split(F.col("_metadata.file_path"), "/"), -1).isin(sorted(paths)))


def _offset(ends: Any, name: str) -> Any:
    return (ends.get(name) or {}).get("offset")
