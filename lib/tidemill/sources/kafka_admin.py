"""Asks a Kafka broker through the client in the JVM; what it says in refusal becomes an error that names the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import SparkSession

from tidemill.errors import SourceError
from tidemill.model import KafkaSource, TopicSink

Broker = KafkaSource | TopicSink
"""What names a broker, and what its clients are told."""

_PATIENCE = {"request.timeout.ms": "10000", "default.api.timeout.ms": "15000"}
"""How long an answer is waited for, unless the options say otherwise."""

ANEW = (
    "the table holds what was read before. For what is left, start on a new table and checkpoint; have the broker keep "
    "records for longer (retention.ms)"
)


@contextmanager
def admin_of(spark: SparkSession, broker: Broker) -> Iterator[Any]:
    """A client that asks a broker. Raises :class:`SourceError` when it cannot be made of the options."""
    jvm: Any = spark._jvm  # noqa: SLF001  Spark has no Python API for a broker
    told = {
        name.removeprefix("kafka."): value.get_secret_value()
        for name, value in broker.options.items()
        if name.startswith("kafka.")
    }
    properties = jvm.java.util.Properties()
    for name, value in (_PATIENCE | told | {"bootstrap.servers": broker.servers}).items():
        properties.setProperty(name, value)
    client = jvm.org.apache.kafka.clients.admin.AdminClient
    admin = answer(broker, lambda: client.create(properties))
    try:
        yield admin
    finally:
        admin.close()


def setting_of(spark: SparkSession, broker: Broker, topic: str, name: str) -> str:
    """A setting of a topic, as it holds. Raises :class:`SourceError` when the broker does not say."""
    jvm: Any = spark._jvm  # noqa: SLF001  as above
    resource = jvm.org.apache.kafka.common.config.ConfigResource
    at = resource(resource.Type.TOPIC, topic)
    with admin_of(spark, broker) as admin:
        told = admin.describeConfigs([at]).values().get(at)
        return str(answer(broker, told.get, topic).get(name).value())


def answer(broker: Broker, ask: Callable[[], Any], topic: str = "", part: str = "") -> Any:
    """What the broker answers. Raises :class:`SourceError` with its reason when it does not."""
    try:
        return ask()
    except Py4JJavaError as error:
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        kind = str(cause.getClass().getSimpleName())
        if topic and kind == "UnknownTopicOrPartitionException":
            raise lost(broker, topic, part, "it is not there any more") from None
        raise SourceError(
            f"no answer from Kafka at {broker.servers}: {kind}: {cause.getMessage()}",
            next_step="see that the broker runs, that servers names it, and that options hold what it asks for",
            servers=broker.servers,
        ) from None


def lost(broker: Broker, topic: str, part: str, what: str) -> SourceError:
    """The error that records of a partition, or a topic, are not there any more."""
    return SourceError(
        f"topic {topic}{', partition ' if part else ''}{part} at {broker.servers}: {what}",
        next_step=ANEW,
        topic=topic,
        partition=part,
        servers=broker.servers,
    )
