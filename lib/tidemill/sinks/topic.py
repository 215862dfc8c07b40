"""Rows of committed files as a topic's messages: values, keys, ids, and whether each is small enough to be sent."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from tidemill.errors import ConfigError
from tidemill.model import TopicSink

ID = "tidemill-id"
"""The header with a message's id, 32 hex digits: the same whenever the row is sent."""

_DIGITS = 32
_OLDER_WRITERS = "spark.sql.sources.useV1SourceList"
_OVERHEAD = 61 + 21 + 5 * 5 + len(ID) + _DIGITS
"""The most that a record takes besides its key and value: batch, record, five lengths, the header."""


def check_key(schema: StructType, sink: TopicSink) -> None:
    """Raise :class:`ConfigError` when the rows lack a column that the key is made of."""
    missing = [name for name in sink.key if name not in schema.names]
    if missing:
        raise ConfigError(
            f"the rows have no column {missing[0]!r}, which is to be the key of messages to {sink.topic}",
            next_step=f"their columns: {', '.join(schema.names)}",
            field="sink.kafka.key",
        )


def messages(
    spark: SparkSession, root: str, paths: Sequence[str], schema: StructType, sink: TopicSink, origin: str
) -> DataFrame:
    """The rows of files below a table's root as messages: ``id``, ``key``, ``value``, and ``bytes`` as they are sent.

    The id is made of ``origin``, which names the commit, and of the row's place in the commit's files. Those never change,
    so that the row has this id whenever it is read.
    """
    frame = spark.read.schema(schema).parquet(*[f"{root.rstrip('/')}/{path}" for path in paths])
    # Below the root: the folder of the attempt, that of the interval, the file. The table may be moved.
    file = F.slice(F.split("_metadata.file_path", "/"), -3, 3)
    place = F.concat_ws("/", F.lit(origin), F.array_join(file, "/"), F.col("_metadata.row_index"))
    found = frame.select(
        F.substring(F.sha2(place, 256), 1, _DIGITS).alias("id"),
        _key(sink).alias("key"),
        _json(schema.names).alias("value"),
    )
    length = F.coalesce(F.octet_length("key"), F.lit(0)) + F.octet_length("value") + F.lit(_OVERHEAD)
    return found.withColumn("bytes", length)


def send(found: DataFrame, sink: TopicSink, limit: int) -> int:
    """Send the messages of at most ``limit`` bytes, in one Spark job, and give how many are greater.

    All replicas have what was sent when this returns.
    """
    header = F.array(F.struct(F.lit(ID).alias("key"), F.encode("id", "UTF-8").alias("value")))
    options = {name: value.get_secret_value() for name, value in sink.options.items()}
    owned = {"kafka.bootstrap.servers": sink.servers, "topic": sink.topic, "kafka.acks": "all"}
    # Otherwise the client has a limit of its own, of 1 MB.
    options = {"kafka.max.request.size": str(max(limit, 1 << 20))} | options | owned
    seen, fits = Observation(), F.col("bytes") <= limit
    sent = found.observe(seen, F.count_if(~fits).alias("too_great")).where(fits)
    sent = sent.select("key", "value", header.alias("headers"))
    _writer_that_observes(found.sparkSession)
    sent.write.format("kafka").options(**options).mode("append").save()
    return int(seen.get["too_great"])


def _writer_that_observes(spark: SparkSession) -> None:
    # Spark's older writer of topics, which it takes by default, reports no observation.
    older = str(spark.conf.get(_OLDER_WRITERS)).split(",")
    spark.conf.set(_OLDER_WRITERS, ",".join(name for name in older if name != "kafka"))


def _key(sink: TopicSink) -> Column:
    if not sink.key:
        return F.lit(None).cast("string")
    return F.col(f"`{sink.key[0]}`").cast("string") if len(sink.key) == 1 else _json(sink.key)


def _json(names: Sequence[str]) -> Column:
    columns = [F.col(f"`{name}`") for name in names]
    return F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})
