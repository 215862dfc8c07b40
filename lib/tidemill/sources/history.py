"""Inputs as history: batch frames that hold exactly what lies up to a pin."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.erasure.frame import personal_rows
from tidemill.errors import StateError
from tidemill.intervals import Grain
from tidemill.ledger import schemas, streams, topics, unreadable
from tidemill.model import DeltaSource, KafkaSource, Pipeline, RabbitSource, RecordSource
from tidemill.quality.watch import Watched
from tidemill.sources import kafka, kafka_offsets, rabbitmq_rows
from tidemill.sources.archive import Reach
from tidemill.sources.live import static_frame, watched
from tidemill.sources.rows import read_schema, reader_options, required_columns

_PATTERN = re.compile(r"([\[\]{}*?\\])")
"""What Hadoop takes for a pattern, unless it is escaped."""

Pinned = Mapping[str, Any]
"""What to read of each input: a list of paths for files, a version for Delta, offsets from and to for a broker."""


def history_frames(
    spark: SparkSession,
    pipeline: Pipeline,
    pinned: Pinned,
    reach: Sequence[tuple[datetime, datetime]],
    suites: Watched,
) -> dict[str, DataFrame]:
    """Every input as a batch frame, up to its pin, with event times in one of the ranges ``reach``.

    Rows that the live stream would set aside are left out: of text formats by the same watch, of the others
    by the range itself and by what they must bring; there the filters prune what is read. The pipeline's ``suites``
    ride on the inputs, and leave their rows out.
    """
    frames = {}
    for name, each in pipeline.inputs.items():
        if each.static:
            frames[name] = personal_rows(static_frame(spark, each), each, name)
            continue
        if each.kafka is not None:
            _check_topics(
                spark,
                pipeline,
                name,
                each.kafka,
                kafka.from_broker(each.kafka, pinned[name], _bounded(pipeline, reach)),
            )
        if each.rabbitmq is not None:
            begun = streams.begun(pipeline.table.state_path, name)
            rabbitmq_rows.check_same(rabbitmq_rows.options_of(each.rabbitmq), begun)
        frame = pinned_frame(spark, pipeline, name, pinned[name], reach)
        frame = suites.history(name, good_rows(spark, pipeline, name, frame, reach))
        frames[name] = personal_rows(frame, each, name)
    return frames


def good_rows(
    spark: SparkSession,
    pipeline: Pipeline,
    name: str,
    frame: DataFrame,
    reach: Sequence[tuple[datetime, datetime]],
) -> DataFrame:
    """The rows of one input, as it came, that the live stream would take in, with event times in one of the ranges."""
    each = pipeline.inputs[name]
    if isinstance(each.source, RecordSource) or (each.files is not None and each.files.format != "parquet"):
        frame = watched(frame, pipeline, name)
    else:
        for column in required_columns(spark, each.source):
            frame = frame.where(frame[f"`{column}`"].isNotNull())
    return frame.where(within(pipeline, name, reach))


def _check_topics(
    spark: SparkSession, pipeline: Pipeline, name: str, source: KafkaSource, needed: Collection[str]
) -> None:
    if needed:  # of a history that the archive has whole, the broker is not asked
        state, now = pipeline.table.state_path, kafka_offsets.topic_ids(spark, source, needed)
        topics.check_known(state, name, needed, now)
        kafka_offsets.check_same(source, topics.read(state).get(name, {}), now)
        kafka_offsets.check_whole(spark, source, needed)


def within(pipeline: Pipeline, name: str, reach: Sequence[tuple[datetime, datetime]]) -> Column:
    """Whether a row of an input has its event time in one of these ranges."""
    moment = F.col(pipeline.event_time_of(name).column)
    if pipeline.grain is Grain.ALL:
        return moment.isNotNull()
    condition = F.lit(False)  # a column, not a flag
    for start, end in reach:
        condition = condition | ((moment >= F.lit(start)) & (moment < F.lit(end)))
    return condition


def _bounded(pipeline: Pipeline, reach: Reach | None) -> Reach | None:
    """A reach that passes something over; None for all of time."""
    return None if pipeline.grain is Grain.ALL else reach


def pinned_frame(
    spark: SparkSession, pipeline: Pipeline, name: str, pin: Any, reach: Reach | None = None
) -> DataFrame:
    """One input up to its pin, rows as they came, bad ones included; without files that could not be read.

    ``reach``: event times besides which no row is wanted; a source that can pass others over may do so.
    """
    source = pipeline.inputs[name].source
    if isinstance(source, KafkaSource):
        reach = _bounded(pipeline, reach)
        known = schemas.read(pipeline.table.state_path).get(name, {})
        return kafka.between(spark, source, pin, known, reach)
    if isinstance(source, RabbitSource):
        return rabbitmq_rows.between(spark, source, pin)
    if isinstance(source, DeltaSource):
        return spark.read.format("delta").option("versionAsOf", int(pin)).load(source.path)
    given_up = unreadable.read(pipeline.table.state_path).get(name, {})
    pin = [path for path in pin if path not in given_up]
    schema = read_schema(spark, source)
    reader = spark.read.format(source.format).options(**reader_options(source))
    if schema is None and not pin:
        raise StateError(f"no file of {source.path} is pinned", next_step="wait for the first file")
    # A pin has files, and no patterns: the stream takes a name with [ or * for a name, too.
    return (reader.schema(schema) if schema is not None else reader).load(
        [_PATTERN.sub(r"\\\1", each) for each in pin]
    )
