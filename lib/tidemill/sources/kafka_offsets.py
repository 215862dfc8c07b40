"""What a Kafka broker holds, asked through the client in the JVM: whether topics are there, and which offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import SparkSession

from tidemill.errors import SourceError
from tidemill.model import KafkaSource

Offsets = Mapping[str, Mapping[str, int]]
"""An offset by topic and partition, as Spark writes them."""

_PATIENCE = {"request.timeout.ms": "10000", "default.api.timeout.ms": "15000"}
"""How long an answer is waited for, unless the options say otherwise."""


_ANEW = (
    "the table holds what was read before. For what is left, start on a new table and checkpoint; have the broker keep "
    "records for longer (retention.ms)"
)


def check_topics(spark: SparkSession, source: KafkaSource) -> None:
    """Raise :class:`SourceError` when no broker answers, or when one of the topics is not there."""
    with _admin(spark, source) as admin:
        known = _answer(source, lambda: admin.listTopics().names().get())
    missing = [topic for topic in source.topics if not known.contains(topic)]
    if missing:
        raise SourceError(
            f"the broker at {source.servers} has no topic {missing[0]}",
            next_step="make the topic, or correct source.kafka.topics; it may also be that this user may not see it",
            topic=missing[0],
            servers=source.servers,
        )


def check_held(spark: SparkSession, source: KafkaSource, start: Offsets, end: Offsets) -> None:
    """Raise :class:`SourceError` when the broker lacks records from ``start`` on and below ``end``.

    It names topic, partition and the offsets that are gone. Offsets that never were records (transaction markers) count
    as lost when retention has passed them: a loss may be over-reported, never missed.
    """
    for (topic, part), (first, after) in _edges(spark, source, end).items():
        since, until = int(start[topic][part]), int(end[topic][part])
        if first > since:
            last = (min(first, until) if until > since else first) - 1
            raise _lost(source, topic, part, f"offsets {since} to {last} are gone")
        if after < until:
            what = f"it ends at {after}, and had {until}: the topic was made anew or cut short"
            raise _lost(source, topic, part, what)


def topic_ids(spark: SparkSession, source: KafkaSource, topics: Iterable[str]) -> dict[str, str]:
    """The id that the broker gave each topic when it was made; without those of brokers that give none.

    Raises :class:`SourceError` when one of the topics is not there.
    """
    names = sorted(topics)
    with _admin(spark, source) as admin:
        found = admin.describeTopics(names).topicNameValues()
        ids = {name: str(_answer(source, found[name].get, name).topicId().toString()) for name in names}
    return {name: each for name, each in ids.items() if each.strip("A")}  # nothing but A is zero: none


def check_same(source: KafkaSource, known: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise :class:`SourceError` when a topic has another id than it had: it was deleted and made anew."""
    for topic in sorted(known.keys() & now.keys()):
        if known[topic] != now[topic]:
            raise SourceError(
                f"topic {topic} at {source.servers} was made anew since the stream began to read it; its offsets "
                "are not those of the old one",
                next_step=_ANEW,
                topic=topic,
                servers=source.servers,
            )


def check_whole(spark: SparkSession, source: KafkaSource, topics: Iterable[str]) -> None:
    """Raise :class:`SourceError` when one of the topics is compacted: its past is not what the stream has read."""
    jvm: Any = spark._jvm  # noqa: SLF001  as below
    resource = jvm.org.apache.kafka.common.config.ConfigResource
    with _admin(spark, source) as admin:
        for topic in sorted(topics):
            at = resource(resource.Type.TOPIC, topic)
            told = admin.describeConfigs([at]).values().get(at)
            if "compact" in str(_answer(source, told.get, topic).get("cleanup.policy").value()):
                raise SourceError(
                    f"topic {topic} at {source.servers} is compacted: records that the stream has read may be gone, and "
                    "history without them would take their rows out of the table",
                    next_step="intervals stay as the stream left them; to be able to repair them, land the topic in a "
                    "table first, and read that",
                    topic=topic,
                    servers=source.servers,
                )


def _edges(
    spark: SparkSession, source: KafkaSource, offsets: Offsets
) -> dict[tuple[str, str], tuple[int, int]]:
    """The first offset that each partition holds, and the one that comes next."""
    jvm: Any = spark._jvm  # noqa: SLF001  Spark has no Python API for a broker's offsets
    spec, place = jvm.org.apache.kafka.clients.admin.OffsetSpec, jvm.org.apache.kafka.common.TopicPartition
    places = {(topic, part): place(topic, int(part)) for topic, each in offsets.items() for part in each}

    def edge(found: Any, topic: str, part: str) -> int:
        future = found.partitionResult(places[topic, part])
        return int(_answer(source, lambda: future.get().offset(), topic, part))

    with _admin(spark, source) as admin:
        first, after = (
            admin.listOffsets(dict.fromkeys(places.values(), when))
            for when in (spec.earliest(), spec.latest())
        )
        return {at: (edge(first, *at), edge(after, *at)) for at in places}


def _lost(source: KafkaSource, topic: str, part: str, what: str) -> SourceError:
    return SourceError(
        f"topic {topic}{', partition ' if part else ''}{part} at {source.servers}: {what}",
        next_step=_ANEW,
        topic=topic,
        partition=part,
        servers=source.servers,
    )


@contextmanager
def _admin(spark: SparkSession, source: KafkaSource) -> Iterator[Any]:
    jvm: Any = spark._jvm  # noqa: SLF001  as above
    told = {
        name.removeprefix("kafka."): value.get_secret_value()
        for name, value in source.options.items()
        if name.startswith("kafka.")
    }
    properties = jvm.java.util.Properties()
    for name, value in (_PATIENCE | told | {"bootstrap.servers": source.servers}).items():
        properties.setProperty(name, value)
    client = jvm.org.apache.kafka.clients.admin.AdminClient
    admin = _answer(source, lambda: client.create(properties))
    try:
        yield admin
    finally:
        admin.close()


def _answer(source: KafkaSource, ask: Callable[[], Any], topic: str = "", part: str = "") -> Any:
    try:
        return ask()
    except Py4JJavaError as error:
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        kind = str(cause.getClass().getSimpleName())
        if topic and kind == "UnknownTopicOrPartitionException":
            raise _lost(source, topic, part, "it is not there any more") from None
        raise SourceError(
            f"no answer from Kafka at {source.servers}: {kind}: {cause.getMessage()}",
            next_step="see that the broker runs, that source.kafka.servers names it, and that source.kafka.options hold "
            "what it asks for",
            servers=source.servers,
        ) from None
