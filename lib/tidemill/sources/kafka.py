"""Topics of Kafka: as a stream, and as the records between two offsets; one shape of rows for both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.ledger.schemas import Writers
from tidemill.model import KafkaSource
from tidemill.sources import archive, avro
from tidemill.sources.kafka_offsets import check_held
from tidemill.sources.records import check_names, record_rows
from tidemill.sources.rows import BESIDE, CORRUPT, EARLIEST, LATEST, PLACE, UNKNOWN_ID, WHY

_NONE: Writers = MappingProxyType({})

_RECORD = (
    "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, timestampType INT, "
    "headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
)

_COLUMNS = ("key", "value", "topic", "partition", "offset", "timestamp")


# After each poll Spark asks the broker where the partition begins and ends, and throws away what was fetched beyond it:
# of Kafka's 500 records a poll, most of the time is that.
_LARGE_FETCHES = {"kafka.max.poll.records": "20000", "kafka.max.partition.fetch.bytes": str(4 * 1024**2)}


def stream(spark: SparkSession, source: KafkaSource, writers: Writers = _NONE) -> DataFrame:
    """The topics as a stream of rows. A lost record ends it: ``failOnDataLoss`` is not for choice.

    ``writers``: the schemas that Avro values are decoded with.
    """
    reader = spark.readStream.format("kafka").options(**_options(source))
    if source.pattern is not None:
        reader = reader.option("subscribePattern", source.pattern)
    elif source.partitions:
        reader = reader.option("assign", json.dumps(source.partitions))
    else:
        reader = reader.option("subscribe", ",".join(source.topics))
    starting = source.starting
    reader = reader.option("startingOffsets", starting if isinstance(starting, str) else json.dumps(starting))
    if source.max_offsets_per_batch is not None:
        reader = reader.option("maxOffsetsPerTrigger", source.max_offsets_per_batch)
    return _rows(reader.load(), source, writers)


def between(
    spark: SparkSession,
    source: KafkaSource,
    pin: Mapping[str, Any],
    writers: Writers = _NONE,
    reach: archive.Reach | None = None,
) -> DataFrame:
    """The records with offsets from ``pin["start"]`` on and below ``pin["end"]``, each by topic and partition.

    Where the pin has an archive, what that holds is read from there, in one shape with the rest. ``reach``: event times
    besides which nothing is wanted; what lies far from them may be left out.
    Raises :class:`tidemill.errors.SourceError` when the broker does not hold all of the rest any more.
    """
    parts = archive.parted(pin, reach, _around(source))
    columns = [*_COLUMNS, *(["headers"] if "headers" in source.columns else [])]
    frame = _of_broker(spark, source, pin, parts).select(*columns)
    if parts.archived_to:
        landed = archive.records(spark, pin, parts, columns, reach, _around(source))
        frame = landed.unionByName(frame) if parts.end else landed
    return _rows(frame, source, writers)


def from_broker(source: KafkaSource, pin: Mapping[str, Any], reach: archive.Reach | None) -> tuple[str, ...]:
    """The topics of which the broker must hold something for this history."""
    return tuple(archive.parted(pin, reach, _around(source)).end)


def _around(source: KafkaSource) -> timedelta | None:
    return source.archive.within if source.archive is not None else None


def _of_broker(
    spark: SparkSession, source: KafkaSource, pin: Mapping[str, Any], parts: archive.Parts
) -> DataFrame:
    start, end = parts.start, parts.end
    if not end:
        return spark.createDataFrame([], _RECORD)
    try:
        check_held(spark, source, start, end)
    except SourceError as error:
        if "archive" in pin and "topic" in error.params:
            raise archive.lacking(error, pin["archive"], _around(source)) from None
        raise
    assigned = {topic: sorted(map(int, offsets)) for topic, offsets in end.items()}
    reader = spark.read.format("kafka").options(**_options(source)).option("assign", json.dumps(assigned))
    reader = reader.option("startingOffsets", json.dumps(start)).option("endingOffsets", json.dumps(end))
    return reader.load()


def _options(source: KafkaSource) -> dict[str, str]:
    options = {name: value.get_secret_value() for name, value in source.options.items()}
    return (
        _LARGE_FETCHES
        | options
        | {
            "kafka.bootstrap.servers": source.servers,
            "failOnDataLoss": "true",
            "includeHeaders": str("headers" in source.columns).lower(),
        }
    )


def _rows(frame: DataFrame, source: KafkaSource, writers: Writers) -> DataFrame:
    beside = [_beside(name, source).alias(name) for name in source.columns]
    added = [F.concat_ws("/", "topic", "partition", "offset").alias(PLACE), *_bounds(source)]
    if source.format == "avro":
        return _records(frame.select(F.col("value").alias(_BYTES), *beside, *added), source, writers)
    texts = ("key",) if "key" in source.columns else ()
    return record_rows(frame, source, "value", beside=beside, added=added, texts=texts)


def _records(frame: DataFrame, source: KafkaSource, writers: Writers) -> DataFrame:
    decoder = avro.decoder(frame.sparkSession, source.row_schema or "", writers, source.name)
    check_names(decoder.row.names, source)
    record, number = decoder.record(_BYTES).alias(_PARSED), avro.schema_id(_BYTES).alias(_ID)
    frame = frame.select("*", record, number)
    why = decoder.reason(_PARSED, _ID, _BYTES)
    held = F.concat(F.lit("base64:"), F.base64(F.coalesce(_BYTES, F.lit(b""))))
    return frame.select(
        *(F.col(_PARSED).getField(name).alias(name) for name in decoder.row.names),
        *source.columns,
        F.when(why.isNotNull(), held).alias(CORRUPT),
        why.alias(WHY),
        decoder.unknown(_ID).alias(UNKNOWN_ID),
        *(name for name in BESIDE if name in frame.columns),
    )


def _bounds(source: KafkaSource) -> list[Column]:
    around = _around(source)
    if around is None:
        return []
    at, most = F.unix_micros("timestamp"), F.lit(round(around.total_seconds() * 1_000_000))
    return [F.timestamp_micros(at - most).alias(EARLIEST), F.timestamp_micros(at + most).alias(LATEST)]


_PARSED, _ID, _BYTES = "_tidemill_parsed", "_tidemill_schema_id", "_tidemill_bytes"


def _beside(name: str, source: KafkaSource) -> Column:
    text = name == "key" and source.format in {"json", "string"}
    return F.col(name).cast(T.StringType()) if text else F.col(name)
