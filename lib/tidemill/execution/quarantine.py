"""Sets rows aside: a Delta table beside the target, exact like the target.

- The streaming frame lets only good rows on and counts the others. When there are any, the batch's input is read
  once more, as history, and those rows are committed under the batch's number before the batch itself: a crash between
  the two commits them once. Rows of the output were staged in files of their own, and are committed likewise. A batch that
  is tried again after a crash may meet other rules: its rows are then put in the place of those of before.
- Where no stream runs, a backfill replaces each input's unreadable rows in the quarantine by those of all that it
  is going to read, before it stages: done twice, it is the same.
- Rows that rules set aside belong to an interval; a backfill replaces them with it, see :mod:`.settle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from py4j.protocol import Py4JError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.erasure.frame import sealed_record
from tidemill.execution import resume
from tidemill.execution.between import input_between
from tidemill.execution.counts import check_aside
from tidemill.ledger import log, unreadable
from tidemill.ledger.facts import LiveBatch
from tidemill.model import FilesSource, Pipeline
from tidemill.quality.rules import Rules
from tidemill.quality.watch import OUTPUT
from tidemill.sinks import aside
from tidemill.sinks.files import DataFile
from tidemill.sinks.jvm import is_race
from tidemill.sinks.stage import label_column, label_of
from tidemill.sinks.table import AppVersion, look
from tidemill.sinks.tables import Table
from tidemill.sources.history import Pinned, pinned_frame
from tidemill.sources.rows import CORRUPT, bad_reason, is_bad, origin, required_columns, source_columns
from tidemill.storage import on_a_store, uri

_ATTEMPTS = 20
SCHEMA = (
    "pipeline STRING, input STRING, reasons ARRAY<STRING>, record STRING, file STRING, at TIMESTAMP, interval STRING, "
    "run STRING, batch BIGINT"
)
"""A row that was set aside. ``input``: "" for a row of the table. ``interval``: null for a row that cannot be read.
``batch``: null for a backfill's."""


def set_aside(
    spark: SparkSession,
    pipeline: Pipeline,
    name: str,
    checkpoint: str,
    fact: LiveBatch,
    counted: int,
    *,
    app: str,
    version: int,
    again: bool = False,
) -> int | None:
    """Commit the rows of one input of a batch that are not let on; at most once for ``(app, version)``.

    ``again``: in place of those that were committed before a crash, see :func:`tried`. Gives how many those are of a stream that
    may read again what is there already; None where the batch has ``counted`` them. Raises :class:`StateError` where it
    counted another number than was found again.
    """
    frames = input_between(spark, pipeline, name, checkpoint, fact.source_start, fact.source_end)
    parts = [part(frame, pipeline, name) for frame in frames for part in (bad_rows, ruled_rows)]
    rows = reduce(DataFrame.unionByName, parts)
    return _put(rows, pipeline, name, fact, counted, app=app, version=version, again=again)


def set_aside_output(
    spark: SparkSession,
    pipeline: Pipeline,
    table: Table,
    files: tuple[DataFile, ...],
    fact: LiveBatch,
    *,
    app: str,
    version: int,
    again: bool = False,
) -> None:
    """Commit the rows of a batch's output that rules set aside, as :func:`set_aside` does those of an input.

    Their files are of no use afterwards, and deleted.
    """
    nothing = spark.createDataFrame([], SCHEMA).drop("run", "batch")
    rows = output_rows(spark, pipeline, table, files) if files else nothing
    _put(rows, pipeline, OUTPUT, fact, None, app=app, version=version, again=again)
    table.discard(files)


def tried(pipeline: Pipeline, app: str, version: int) -> bool:
    """Whether ``app`` has set rows of this batch aside already. No JVM."""
    path = pipeline.quarantine_path
    done = look(path).transaction_version(app) if log.exists(path) else None
    return done is not None and done >= version


def _put(
    rows: DataFrame,
    pipeline: Pipeline,
    of: str,
    fact: LiveBatch,
    counted: int | None,
    *,
    app: str,
    version: int,
    again: bool,
) -> int | None:
    rows = rows.withColumns({"run": F.lit(fact.run), "batch": F.lit(fact.batch).cast("long")})
    fresh: int | None = None
    where, noted = (
        f"input = '{of}' AND batch = {fact.batch}",
        resume.noted(pipeline) if pipeline.recorded else None,
    )
    if noted is not None and noted.anew is not None:
        # Batches are numbered anew, and may read again what the lost checkpoint's had read.
        there = standing(rows.sparkSession, pipeline, f"input = '{of}'")
        rows = resume.not_aside_before(rows, there, noted.anew)
        where, fresh = f"{where} AND at >= TIMESTAMP '{noted.anew.since}'", rows.count()
    if fresh is not None:
        counted = None  # as the batch does not know them yet
    if again:
        # After a crash a job more does no harm; and it may have been this check that ended the run.
        if counted is not None:
            check_aside(pipeline, fact, of, counted, rows.count())
        replace(rows, pipeline, where)
    else:
        written = append(rows, pipeline, app, version)
        if counted is not None and written is not None:
            check_aside(pipeline, fact, of, counted, written)
    return fresh


def append(rows: DataFrame, pipeline: Pipeline, app: str, version: int) -> int | None:
    """Commit rows to the quarantine, once for ``(app, version)``; give how many, where the commit tells."""
    path, done = pipeline.quarantine_path, AppVersion(app, version)
    if on_a_store(path):
        return aside.append(rows, path, done)
    writer = rows.write.format("delta").mode("append").option("mergeSchema", "true")
    _save(writer.option("txnAppId", app).option("txnVersion", version), pipeline)
    return log.rows_written(path, app, version)


def set_aside_history(spark: SparkSession, pipeline: Pipeline, pinned: Pinned, run: str) -> int:
    """Make the quarantine hold exactly the unreadable rows of the pinned inputs; give how many those are.

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
    bad = bad_rows(pinned_frame(spark, pipeline, name, pin), pipeline, name)
    given_up = unreadable.read(pipeline.table.state_path).get(name, {})
    listed = {path: reason for path, reason in given_up.items() if path in set(pin)}
    if listed:
        bad = bad.unionByName(file_rows(spark, pipeline, name, listed))
    bad = bad.persist()
    try:
        rows = bad.count()  # computes the few rows that are kept for the steps below
        if rows or log.exists(pipeline.quarantine_path):
            where = f"input = '{name}' AND interval IS NULL"
            replace(bad.withColumns({"run": F.lit(run), "batch": F.lit(None).cast("long")}), pipeline, where)
        return rows
    finally:
        bad.unpersist()


def standing(spark: SparkSession, pipeline: Pipeline, where: str, *, version: int | None = None) -> DataFrame:
    """The rows of the quarantine for which ``where`` holds, now or at ``version`` (-1: before there was one)."""
    path = pipeline.quarantine_path
    if version == -1 or not log.exists(path):
        return spark.createDataFrame([], SCHEMA)
    reader = spark.read.format("delta")
    frame = (reader if version is None else reader.option("versionAsOf", version)).load(path)
    if "interval" not in frame.columns:  # one of before rules
        frame = frame.withColumn("interval", F.lit(None).cast("string"))
    return frame.where(where)


def replace(rows: DataFrame, pipeline: Pipeline, where: str) -> None:
    """Make ``rows`` the rows of the quarantine for which ``where`` holds, in one commit; none when they are."""
    stands = standing(rows.sparkSession, pipeline, where)
    if _same(rows, stands):
        return
    path = pipeline.quarantine_path
    if on_a_store(path):
        aside.replace(rows, path, where)
        return
    if log.exists(path) and "interval" not in rows.sparkSession.read.format("delta").load(path).columns:
        # A condition can only name a column that is there.
        _save(rows.limit(0).write.format("delta").mode("append").option("mergeSchema", "true"), pipeline)
    _save(rows.write.format("delta").mode("overwrite").option("replaceWhere", where), pipeline)


def _save(writer: DataFrameWriter, pipeline: Pipeline) -> None:
    """Write once, again where another commit came between: a stream appends while a backfill replaces."""
    for attempt in range(_ATTEMPTS):
        try:
            writer.save(pipeline.quarantine_path)
        except (Py4JError, PySparkException) as error:
            if not is_race(error) or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _same(rows: DataFrame, stands: DataFrame) -> bool:
    """Whether both hold the same rows, each as often. One Spark job."""
    what = ["input", "reasons", "record", "file", "interval"]
    new, old = rows.select(*what, F.lit(1).alias("n")), stands.select(*what, F.lit(-1).alias("n"))
    return new.unionByName(old).groupBy(*what).agg(F.sum("n").alias("n")).where("n <> 0").isEmpty()


def bad_rows(frame: DataFrame, pipeline: Pipeline, name: str) -> DataFrame:
    """The rows that cannot be taken in: raw record, reason, and where they came from."""
    event_time = pipeline.event_time_of(name).column
    required = required_columns(frame.sparkSession, pipeline.inputs[name].source)
    reasons = F.array(bad_reason(frame, event_time, required))
    # Not by the reason: this condition is one that parquet's statistics can answer.
    return _input_rows(frame.where(is_bad(frame, event_time, required)), pipeline, name, reasons)


def ruled_rows(frame: DataFrame, pipeline: Pipeline, name: str) -> DataFrame:
    """The readable rows that rules of the input set aside, as they came."""
    suite = pipeline.quality.inputs.get(name)
    if suite is None:
        return frame.sparkSession.createDataFrame([], SCHEMA).drop("run", "batch")
    rules = Rules.of(suite, frame.select(*source_columns(frame)).schema)
    event_time = pipeline.event_time_of(name).column
    bad = is_bad(frame, event_time, required_columns(frame.sparkSession, pipeline.inputs[name].source))
    label = label_of(F.col(event_time), pipeline.grain)
    aside = rules.marked(frame.where(~bad)).where(rules.quarantined)
    return _input_rows(aside, pipeline, name, rules.reasons, label)


def _input_rows(
    frame: DataFrame, pipeline: Pipeline, name: str, reasons: Column, label: Column | None = None
) -> DataFrame:
    whole = F.to_json(F.struct(*source_columns(frame)))
    raw = F.coalesce(F.col(CORRUPT), whole) if CORRUPT in frame.columns else whole
    raw = sealed_record(raw, frame, pipeline.inputs[name])
    return frame.select(
        F.lit(pipeline.name).alias("pipeline"),
        F.lit(name).alias("input"),
        reasons.alias("reasons"),
        raw.alias("record"),
        origin(frame).alias("file"),
        F.current_timestamp().alias("at"),
        (F.lit(None) if label is None else label).cast("string").alias("interval"),
    )


def output_rows(
    spark: SparkSession, pipeline: Pipeline, table: Table, files: tuple[DataFile, ...]
) -> DataFrame:
    """The rows of staged files that rules of the table set aside, as the transform gave them."""
    suite = pipeline.quality.suite
    assert suite is not None  # noqa: S101  else there were no such files
    fields = [field for field in table.schema["fields"] if field["name"] != pipeline.partition_column]
    schema = T.StructType.fromJson({"type": "struct", "fields": fields})
    rules = Rules.of(suite, schema)
    return rules.marked(table.read(spark, files, schema)).select(
        F.lit(pipeline.name).alias("pipeline"),
        F.lit(OUTPUT).alias("input"),
        rules.reasons.alias("reasons"),
        F.to_json(F.struct(*[F.col(f"`{each}`") for each in schema.names])).alias("record"),
        F.lit(None).cast("string").alias("file"),
        F.current_timestamp().alias("at"),
        label_column(pipeline).alias("interval"),
    )


def file_rows(spark: SparkSession, pipeline: Pipeline, name: str, files: Mapping[str, str]) -> DataFrame:
    """A row, as :func:`bad_rows` gives them, for each file that cannot be read: its path is the record."""
    rows = [(path, f"the file cannot be read: {reason}", uri(path)) for path, reason in files.items()]
    return spark.createDataFrame(rows, "path STRING, reason STRING, uri STRING").select(
        F.lit(pipeline.name).alias("pipeline"),
        F.lit(name).alias("input"),
        F.array("reason").alias("reasons"),
        F.col("path").alias("record"),
        F.col("uri").alias("file"),
        F.current_timestamp().alias("at"),
        F.lit(None).cast("string").alias("interval"),
    )
