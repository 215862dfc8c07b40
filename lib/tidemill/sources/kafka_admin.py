"""Asks a Kafka broker through the client in the JVM; what it says in refusal becomes an error that names the broker."""

from __future__ import annotations

import re
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
    """What the broker answers. Raises :class:`SourceError` with its reason when it does not; never with a secret."""
    try:
        return ask()
    except Py4JJavaError as error:
        causes = [error.java_exception]
        while causes[-1].getCause() is not None:
            causes.append(causes[-1].getCause())
        kinds = [str(each.getClass().getSimpleName()) for each in causes]
        if topic and kinds[-1] == "UnknownTopicOrPartitionException":
            raise lost(broker, topic, part, "it is not there any more") from None
        what, next_step = _meaning(kinds)
        reason = masked(f"{kinds[-1]}: {causes[-1].getMessage()}", broker)
        raise SourceError(
            f"{what} {broker.servers}: {reason}", next_step=next_step, servers=broker.servers
        ) from None


def _meaning(kinds: list[str]) -> tuple[str, str]:
    """What exceptions, from the outermost to the innermost, say of a broker, and what to do about it."""
    if "SaslAuthenticationException" in kinds:
        return "the login is refused by Kafka at", (
            "correct user and password in options (kafka.sasl.jaas.config), or kafka.sasl.mechanism"
        )
    if "SslAuthenticationException" in kinds or "SSLHandshakeException" in kinds:
        return "no TLS with Kafka at", (
            "the store in options (kafka.ssl.truststore.location) must know the broker's certificate, and the certificate the "
            "name in servers"
        )
    if kinds[-1].endswith("AuthorizationException"):
        return (
            "this user may not ask that of Kafka at",
            "let the user describe the topics, or log in as another",
        )
    if "KafkaException" in kinds or "IllegalArgumentException" in kinds or "ConfigException" in kinds:
        return "the options do not make a client for Kafka at", "correct them; what they hold is not shown"
    return "no answer from Kafka at", (
        "see that the broker runs, that servers names it, and that options hold what it asks for: a port that wants TLS or "
        "a login does not answer who comes without"
    )


_SECRET = re.compile(r"jaas|password|secret|token|\.key|certificate")
_PLAIN = re.compile(r"required|username|password|[\w.]*LoginModule|.{1,2}")


def masked(text: str, broker: Broker) -> str:
    """A text without any word of the options that may be secrets: clients quote what they do not understand.

    >>> options = {"kafka.sasl.jaas.config": 'x.PlainLoginModule required password="hunter2";'}
    >>> masked("control flag 'hunter2'", TopicSink(servers="s", topic="t", options=options))
    "control flag '***'"
    """
    for name, value in broker.options.items():
        if _SECRET.search(name):
            words = re.split(r"""[\s"';=,]+""", value.get_secret_value())
            for word in sorted({each for each in words if not _PLAIN.fullmatch(each)}, key=len, reverse=True):
                text = text.replace(word, "***") if word else text
    return text


def lost(broker: Broker, topic: str, part: str, what: str) -> SourceError:
    """The error that records of a partition, or a topic, are not there any more."""
    return SourceError(
        f"topic {topic}{', partition ' if part else ''}{part} at {broker.servers}: {what}",
        next_step=ANEW,
        topic=topic,
        partition=part,
        servers=broker.servers,
    )
