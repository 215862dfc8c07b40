"""Inputs as streams, watched: bad rows counted and set aside, event times noted.

The order matters. Bad rows leave before the watermark, so that a poisoned timestamp does not move it. The
second observation stands between the watermark and the transform: it keeps Spark from pushing the
transform's filters below the watermark, which would let the filters decide how far the watermark moves.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.intervals import format_duration
from tidemill.model import FilesSource, Input, Pipeline
from tidemill.sources.rows import bad_reason, read_schema, reader_options, source_columns

BUCKET_SECONDS = 600
"""How finely the event times of a batch are noted."""

_FOREVER = "36500d"


def observed(name: str, part: str) -> str:
    """The name of an input's observation."""
    return f"tidemill_{part}_{name}"


def live_frames(spark: SparkSession, pipeline: Pipeline) -> dict[str, DataFrame]:
    """Every input of a pipeline as the live stream reads it: watched, clean, watermarked; static ones whole."""
    return {
        name: static_frame(spark, each) if each.static else _live(spark, pipeline, name)
        for name, each in pipeline.inputs.items()
    }


def static_frame(spark: SparkSession, each: Input) -> DataFrame:
    """A static input, whole, as it is now."""
    if each.files is not None:
        reader = spark.read.format(each.files.format).options(**reader_options(each.files, corrupt=False))
        schema = read_schema(spark, each.files, corrupt=False)
        return (reader.schema(schema) if schema is not None else reader).load(each.files.path)
    return spark.read.format("delta").load(each.source.path)


def _live(spark: SparkSession, pipeline: Pipeline, name: str) -> DataFrame:
    moment = pipeline.event_time_of(name)
    frame = watched(_stream(spark, pipeline.inputs[name]), pipeline, name)
    if moment.watermark is not None:
        frame = frame.withWatermark(moment.column, format_spark(format_duration(moment.watermark)))
    bucket = F.floor(F.unix_seconds(F.col(moment.column).cast("timestamp")) / F.lit(BUCKET_SECONDS))
    return frame.observe(observed(name, "times"), F.collect_set(bucket).alias("buckets"))


def watched(frame: DataFrame, pipeline: Pipeline, name: str) -> DataFrame:
    """Count an input's rows and bad rows as they pass, and let only the good ones on."""
    columns = source_columns(frame)
    reason = bad_reason(frame, pipeline.event_time_of(name).column)
    frame = frame.observe(
        observed(name, "rows"),
        F.count(F.lit(1)).alias("rows"),
        F.count(reason).alias("bad"),
        # Every column is asked for, so that a record is judged whole whatever the transform looks at.
        F.count(F.when(reason.isNull(), F.struct(*columns))).alias("good"),
    )
    return frame.where(reason.isNull()).select(*columns)


def _stream(spark: SparkSession, each: Input) -> DataFrame:
    limit = each.source.max_files_per_batch
    if isinstance(each.source, FilesSource):
        reader = spark.readStream.format(each.source.format).options(**reader_options(each.source))
        # By default Spark ignores files older than a week before the newest: that would lose input.
        reader = reader.option("maxFileAge", _FOREVER)
        schema = read_schema(spark, each.source)
        if schema is None:
            schema = spark.read.format(each.source.format).load(each.source.path).schema
        reader = reader.schema(schema)
    else:
        # Changes are propagated through the ledger: intervals here become dirty, see planning.upstream.
        reader = spark.readStream.format("delta").option("skipChangeCommits", "true")
    if limit is not None:
        reader = reader.option("maxFilesPerTrigger", limit)
    return reader.load(each.source.path)


def format_spark(duration: str) -> str:
    """A duration as Spark's interval parser reads it."""
    names = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
    parts = []
    for part in duration.split():
        digits = part.rstrip("dhms")
        parts.append(f"{digits} {names[part[len(digits) :]]}")
    return " ".join(parts)
