"""Topics of Kafka: as a stream, and as the records between two offsets; one shape of rows for both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.ledger.schemas import Writers
from tidemill.model import KafkaSource
from tidemill.sources import avro
from tidemill.sources.kafka_offsets import check_held
from tidemill.sources.records import check_names, record_rows
from tidemill.sources.rows import CORRUPT, PLACE, UNKNOWN_ID, WHY

_NONE: Writers = MappingProxyType({})

_RECORD = (
    "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, timestampType INT, "
    "headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
)


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
    spark: SparkSession, source: KafkaSource, pin: Mapping[str, Any], writers: Writers = _NONE
) -> DataFrame:
    """The records with offsets from ``pin["start"]`` on and below ``pin["end"]``, each by topic and partition.

    Raises :class:`tidemill.errors.SourceError` when the broker does not hold all of them any more.
    """
    start, end = _span(pin)
    if not end:
        return _rows(spark.createDataFrame([], _RECORD), source, writers)
    check_held(spark, source, start, end)
    assigned = {topic: sorted(map(int, offsets)) for topic, offsets in end.items()}
    reader = spark.read.format("kafka").options(**_options(source)).option("assign", json.dumps(assigned))
    reader = reader.option("startingOffsets", json.dumps(start)).option("endingOffsets", json.dumps(end))
    return _rows(reader.load(), source, writers)


def _span(pin: Mapping[str, Any]) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """The partitions of a pin that hold anything; one that began after the stream did begins at 0."""
    start: dict[str, dict[str, int]] = {}
    end: dict[str, dict[str, int]] = {}
    for topic, offsets in pin["end"].items():
        for partition, until in offsets.items():
            since = int(pin["start"].get(topic, {}).get(partition, 0))
            if since < int(until):
                start.setdefault(topic, {})[partition] = since
                end.setdefault(topic, {})[partition] = int(until)
    return start, end


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
    place = F.concat_ws("/", "topic", "partition", "offset").alias(PLACE)
    if source.format == "avro":
        return _records(frame.select(F.col("value").alias(_BYTES), *beside, place), source, writers)
    texts = ("key",) if "key" in source.columns else ()
    return record_rows(frame, source, "value", beside=beside, added=[place], texts=texts)


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
        PLACE,
    )


_PARSED, _ID, _BYTES = "_tidemill_parsed", "_tidemill_schema_id", "_tidemill_bytes"


def _beside(name: str, source: KafkaSource) -> Column:
    text = name == "key" and source.format in {"json", "string"}
    return F.col(name).cast(T.StringType()) if text else F.col(name)
