"""Sets bad input rows aside: a Delta table beside the target, exact like the target.

- The streaming frame lets only good rows on and counts the bad. When there are any, the batch's input is read
  once more, as history, and the bad rows are committed under the batch's number before the batch itself: a
  crash between the two commits them once.
- Where no stream runs, a backfill replaces each input's part of the quarantine by the bad rows of all that it
  is going to read, before it stages: done twice, it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.ledger import inputs, log, unreadable
from tidemill.ledger.facts import LiveBatch
from tidemill.model import FilesSource, Pipeline
from tidemill.sources.history import Pinned, pinned_frame
from tidemill.sources.rows import CORRUPT, bad_reason, is_bad, required_columns, source_columns


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
        .save(pipeline.quarantine_path)
    )


def set_aside_history(spark: SparkSession, pipeline: Pipeline, pinned: Pinned, run: str) -> int:
    """Make the quarantine hold exactly the bad rows of the pinned inputs; give how many those are.

    Writes nothing when it holds them already. Each input is read once; parquet and Delta skip what their
    statistics rule out.
    """
    return sum(
        _settle(spark, pipeline, name, pinned[name], run)
        for name, each in pipeline.inputs.items()
        if not each.static
    )


def _settle(spark: SparkSession, pipeline: Pipeline, name: str, pin: Any, run: str) -> int:
    if not pin and isinstance(pipeline.inputs[name].source, FilesSource):
        return 0
    path = pipeline.quarantine_path
    bad = bad_rows(pinned_frame(spark, pipeline, name, pin), pipeline, name)
    given_up = unreadable.read(pipeline.table.state_path).get(name, {})
    listed = {path: reason for path, reason in given_up.items() if path in set(pin)}
    if listed:
        bad = bad.unionByName(file_rows(spark, pipeline, name, listed))
    bad = bad.persist()
    try:
        rows = bad.count()  # computes the few rows that are kept for the steps below
        stands = spark.read.format("delta").load(path) if log.exists(path) else None
        if stands is None and not rows:
            return 0
        if stands is None or not _same(bad, stands.where(F.col("input") == name)):
            named = bad.withColumns({"run": F.lit(run), "batch": F.lit(None).cast("long")})
            writer = named.write.format("delta").mode("overwrite")
            writer.option("replaceWhere", f"input = '{name}'").save(path)
        return rows
    finally:
        bad.unpersist()


def _same(bad: DataFrame, stands: DataFrame) -> bool:
    what = ["reasons", "record", "file"]
    new, old = bad.select(*what), stands.select(*what)
    return new.exceptAll(old).isEmpty() and old.exceptAll(new).isEmpty()


def bad_rows(frame: DataFrame, pipeline: Pipeline, name: str) -> DataFrame:
    """The rows that cannot be taken in: raw record, reason, and where they came from."""
    event_time = pipeline.event_time_of(name).column
    required = required_columns(frame.sparkSession, pipeline.inputs[name].source)
    reason = bad_reason(frame, event_time, required)
    whole = F.to_json(F.struct(*source_columns(frame)))
    raw = F.coalesce(F.col(CORRUPT), whole) if CORRUPT in frame.columns else whole
    # Not by the reason: this condition is one that parquet's statistics can answer.
    return frame.where(is_bad(frame, event_time, required)).select(
        F.lit(pipeline.name).alias("pipeline"),
        F.lit(name).alias("input"),
        F.array(reason).alias("reasons"),
        raw.alias("record"),
        F.col("_metadata.file_path").alias("file"),
        F.current_timestamp().alias("at"),
    )


def file_rows(spark: SparkSession, pipeline: Pipeline, name: str, files: Mapping[str, str]) -> DataFrame:
    """A row, as :func:`bad_rows` gives them, for each file that cannot be read: its path is the record."""
    rows = [
        (path, f"the file cannot be read: {reason}", Path(path).as_uri()) for path, reason in files.items()
    ]
    return spark.createDataFrame(rows, "path STRING, reason STRING, uri STRING").select(
        F.lit(pipeline.name).alias("pipeline"),
        F.lit(name).alias("input"),
        F.array("reason").alias("reasons"),
        F.col("path").alias("record"),
        F.col("uri").alias("file"),
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
