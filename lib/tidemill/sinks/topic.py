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
_OWN_LIMITS = ("kafka.max.request.size", "kafka.buffer.memory")
"""The options of Kafka's client by which it refuses a message before it sends anything."""

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


def most_bytes(sink: TopicSink, of_topic: int) -> int:
    """The greatest message that is sent to a topic which takes ``of_topic`` bytes: the client's options may let less through.

    What is no number there is the client's to refuse.
    """
    said = [sink.options[name].get_secret_value().strip() for name in _OWN_LIMITS if name in sink.options]
    return min([of_topic, *(int(each) for each in said if each.isdecimal())])


def client_options(sink: TopicSink, limit: int) -> dict[str, str]:
    """The options of Spark's writer, with a client that takes messages of ``limit`` bytes (:func:`most_bytes`)."""
    options = {name: value.get_secret_value() for name, value in sink.options.items()}
    owned = {"kafka.bootstrap.servers": sink.servers, "topic": sink.topic, "kafka.acks": "all"}
    # Otherwise the client refuses what is greater than 1 MB, and, whatever that says, than its buffer of 32 MB.
    sizes = zip(_OWN_LIMITS, (max(limit, 1 << 20), max(2 * limit, 32 << 20)), strict=True)
    return {name: str(size) for name, size in sizes} | options | owned


def send(found: DataFrame, sink: TopicSink, limit: int) -> int:
    """Send the messages of at most ``limit`` bytes, in one Spark job, and give how many are greater.

    All replicas have what was sent when this returns.
    """
    header = F.array(F.struct(F.lit(ID).alias("key"), F.encode("id", "UTF-8").alias("value")))
    seen, fits = Observation(), F.col("bytes") <= limit
    sent = found.observe(seen, F.count_if(~fits).alias("too_great")).where(fits)
    sent = sent.select("key", "value", header.alias("headers"))
    _writer_that_observes(found.sparkSession)
    sent.write.format("kafka").options(**client_options(sink, limit)).mode("append").save()
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
