"""Queues of RabbitMQ as a pipeline's rows: as a stream, and as the records between two offsets."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.errors import SourceError
from tidemill.ledger.streams import Begun
from tidemill.model import RabbitSource
from tidemill.sources.rabbitmq import RabbitStreamSource
from tidemill.sources.rabbitmq_options import RabbitOptions, rabbit_options
from tidemill.sources.rabbitmq_stream import SCHEMA, check_gap, end_of, first_of, is_missing, read_range
from tidemill.sources.records import record_rows
from tidemill.sources.rows import LAST, PLACE

_ANEW = "the table holds what was read before. For what is there now, start on a new table and checkpoint"


def stream(spark: SparkSession, source: RabbitSource) -> DataFrame:
    """The queue as a stream of rows. A lost record ends it; that is not for choice."""
    _register(spark)
    reader = spark.readStream.format(RabbitStreamSource.name()).options(**_given(source))
    return _rows(reader.option("start", source.starting).load(), source)


def between(spark: SparkSession, source: RabbitSource, pin: Mapping[str, Any]) -> DataFrame:
    """The records from the offset ``pin["start"]`` on and below ``pin["end"]``.

    Raises :class:`tidemill.errors.SourceError` when the broker does not hold all of them any more.
    """
    start, end = (int(pin[each].get("offset", 0)) for each in ("start", "end"))
    if start >= end:
        return _rows(spark.createDataFrame([], SCHEMA), source)
    check_held(options_of(source), start, end)
    _register(spark)
    reader = spark.read.format(RabbitStreamSource.name()).options(**_given(source))
    return _rows(reader.option("start_offset", start).option("end_offset", end).load(), source)


def _register(spark: SparkSession) -> None:
    """Make the format known to a session. Spark looks for formats in the thread's active session."""
    jvm: Any = spark._jvm  # noqa: SLF001  Spark has no Python API for either question
    session = spark._jsparkSession  # noqa: SLF001  as above
    jvm.org.apache.spark.sql.SparkSession.setActiveSession(session)
    if not session.sessionState().dataSourceManager().dataSourceExists(RabbitStreamSource.name()):
        spark.dataSource.register(RabbitStreamSource)


def options_of(source: RabbitSource) -> RabbitOptions:
    """What reaches the queue of a source."""
    return rabbit_options(_given(source))


def is_there(source: RabbitSource) -> bool:
    """Whether the broker has the queue. Raises :class:`SourceError` when it does not answer."""
    try:
        end_of(options_of(source))
    except SourceError as error:
        if is_missing(error):
            return False
        raise
    return True


def check_held(options: RabbitOptions, start: int, end: int) -> None:
    """Raise :class:`SourceError` when the queue lacks records from ``start`` on and below ``end``, or next to come.

    It says which are gone, or that the queue ends before. A loss may be over-reported where ``start`` is an offset that
    the broker took for itself, never missed.
    """
    after = end_of(options) or 0
    if after < end:
        raise SourceError(
            f"{options.where} ends at offset {after}, and had {end}: it was deleted and made anew, or cut short",
            next_step=_ANEW,
            queue=options.queue,
            position=end,
            end=after,
        )
    first = first_of(options)
    if start < after and first is not None and first > start:
        check_gap(options.where, start, first, first)


def check_same(options: RabbitOptions, known: Begun) -> None:
    """Raise :class:`SourceError` when the queue was made anew: where the last known record stood is another, or none.

    It cannot tell once retention has taken that record, and where the new queue has the same body there.
    """
    if known.last is None:
        return
    first = first_of(options)
    if first is not None and first > known.last:
        return
    check_held(options, known.last, known.last + 1)
    digests = [sha256(row[-1]).hexdigest() for row in read_range(options, known.last, known.last + 1)]
    if digests != [known.digest]:
        raise SourceError(
            f"{options.where} was deleted and made anew since it was read: another record stands at offset {known.last}",
            next_step=_ANEW,
            queue=options.queue,
            offset=known.last,
        )


def _given(source: RabbitSource) -> dict[str, str]:
    at = source.address
    options: dict[str, object] = {
        "host": at.host,
        "port": at.port,
        "vhost": at.vhost,
        "user": at.user,
        "password": at.password,
        "queue": source.queue,
        "max_records_per_batch": source.max_records_per_batch,
        "records_per_partition": source.records_per_task,
        "read_timeout_seconds": source.read_timeout_seconds,
        "reconnect_attempts": source.reconnect_attempts,
        "reconnect_seconds": source.reconnect_seconds,
    }
    exchange = source.exchange
    if exchange is not None:
        options |= {"exchange": exchange.name, "exchange_type": exchange.type}
        options |= {"declare_exchange": str(exchange.declare).lower()}
        if exchange.routing_keys:
            options["routing_keys"] = ",".join(exchange.routing_keys)
    return {name: str(value) for name, value in options.items() if value is not None}


def _rows(frame: DataFrame, source: RabbitSource) -> DataFrame:
    place = F.concat_ws("/", F.lit(source.queue), "offset").alias(PLACE)
    last = F.struct("offset", F.sha2("body", 256).alias("digest")).alias(LAST)
    beside = [_beside(name).alias(name) for name in source.columns]
    return record_rows(frame, source, "body", beside=beside, added=[place, last])


def _beside(name: str) -> Column:
    if name != "headers":
        return F.col(name)
    # A map cannot be compared with another: pairs in an order can. The cast lets keys be null, as columns of tables are.
    return F.array_sort(F.map_entries("headers")).cast("array<struct<key: string, value: string>>")
