"""Topics of Kafka: as a stream, and as the records between two offsets; one shape of rows for both.

What cannot be a row is judged as in text files: it is kept in the column ``CORRUPT``, and the column ``PLACE`` says where
it stands. Bytes that are no UTF-8 have no text; they are kept as ``base64:`` and their base64, and so are Avro's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import ConfigError
from tidemill.ledger.schemas import Writers
from tidemill.model import KafkaSource
from tidemill.sources import avro
from tidemill.sources.kafka_offsets import check_held
from tidemill.sources.rows import CORRUPT, PLACE, UNKNOWN_ID, WHY, read_schema

_NONE: Writers = MappingProxyType({})

_RECORD = (
    "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, timestampType INT, "
    "headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
)


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
    return options | {
        "kafka.bootstrap.servers": source.servers,
        "failOnDataLoss": "true",
        "includeHeaders": str("headers" in source.columns).lower(),
    }


def _rows(frame: DataFrame, source: KafkaSource, writers: Writers) -> DataFrame:
    beside = [_beside(name, source).alias(name) for name in source.columns]
    place = F.concat_ws("/", "topic", "partition", "offset").alias(PLACE)
    value = F.col("value")
    if source.format == "raw":
        return frame.select(value, *beside, place)
    if source.format == "avro":
        return _records(frame.select(value.alias(_TEXT), *beside, place), source, writers)
    text = value.cast("string")
    valid = F.coalesce(F.is_valid_utf8(text), F.lit(True))
    if "key" in source.columns:
        valid &= F.coalesce(F.is_valid_utf8(F.col("key").cast("string")), F.lit(True))
    # Why it is no row, if it is none: of bytes without a text, their base64.
    unread = F.when(~valid, F.concat(F.lit("base64:"), F.base64(F.coalesce(value, F.lit(b"")))))
    if source.format == "string":
        return frame.select(F.when(valid, text).alias("value"), *beside, unread.alias(CORRUPT), place)
    schema = read_schema(frame.sparkSession, source)
    assert schema is not None  # noqa: S101  the model saw to it
    names = [name for name in schema.names if name != CORRUPT]
    _check_names(names, source)
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    parsed = F.from_json(F.when(valid, text), schema, options).alias(_PARSED)
    frame = frame.select(parsed, *beside, unread.alias(_UNREAD), text.alias(_TEXT), place)
    row = F.col(_PARSED)
    # No object at all (an empty text, none as in a tombstone) is no record either.
    corrupt = F.coalesce(_UNREAD, F.when(row.isNull(), F.coalesce(_TEXT, F.lit(""))), row.getField(CORRUPT))
    columns = [row.getField(name).alias(name) for name in names]
    return frame.select(*columns, *source.columns, corrupt.alias(CORRUPT), PLACE)


def _records(frame: DataFrame, source: KafkaSource, writers: Writers) -> DataFrame:
    decoder = avro.decoder(frame.sparkSession, source.row_schema or "", writers, source.name)
    _check_names(decoder.row.names, source)
    record, number = decoder.record(_TEXT).alias(_PARSED), avro.schema_id(_TEXT).alias(_UNREAD)
    frame = frame.select("*", record, number)
    why = decoder.reason(_PARSED, _UNREAD, _TEXT)
    held = F.concat(F.lit("base64:"), F.base64(F.coalesce(_TEXT, F.lit(b""))))
    return frame.select(
        *(F.col(_PARSED).getField(name).alias(name) for name in decoder.row.names),
        *source.columns,
        F.when(why.isNotNull(), held).alias(CORRUPT),
        why.alias(WHY),
        decoder.unknown(_UNREAD).alias(UNKNOWN_ID),
        PLACE,
    )


_PARSED, _UNREAD, _TEXT = "_tidemill_parsed", "_tidemill_unread", "_tidemill_text"


def _beside(name: str, source: KafkaSource) -> Column:
    text = name == "key" and source.format in {"json", "string"}
    return F.col(name).cast(T.StringType()) if text else F.col(name)


def _check_names(names: list[str], source: KafkaSource) -> None:
    twice = {name.lower() for name in names} & set(source.columns)
    if twice:
        raise ConfigError(
            f"the schema of {source.name} has a column {min(twice)!r}, and with adds one of that name",
            next_step="leave it out of with, or of the schema",
            field="source.kafka.with",
        )
