"""What a Kafka broker holds, asked through the client in the JVM: whether topics are there, and which offsets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import SparkSession

from tidemill.errors import SourceError
from tidemill.model import KafkaSource, TopicSink
from tidemill.sources.kafka_admin import ANEW, admin_of, answer, lost, setting_of

Offsets = Mapping[str, Mapping[str, int]]
"""An offset by topic and partition, as Spark writes them."""
_EARLIEST = -2  # so Spark writes it


def check_topics(spark: SparkSession, source: KafkaSource) -> None:
    """Raise :class:`SourceError` when no broker answers, or when one of the topics is not there."""
    _check_there(spark, source, source.named)


def most_bytes(spark: SparkSession, sink: TopicSink) -> int:
    """The greatest record that a topic takes. Raises as :func:`check_topics`."""
    _check_there(spark, sink, [sink.topic])
    return int(setting_of(spark, sink, sink.topic, "max.message.bytes"))


def _check_there(spark: SparkSession, broker: KafkaSource | TopicSink, topics: Iterable[str]) -> None:
    with admin_of(spark, broker) as admin:
        known = answer(broker, lambda: admin.listTopics().names().get())
    missing = [topic for topic in topics if not known.contains(topic)]
    if missing:
        raise SourceError(
            f"the broker at {broker.servers} has no topic {missing[0]}",
            next_step="make the topic, or correct its name; it may also be that this user may not see it",
            topic=missing[0],
            servers=broker.servers,
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
            raise lost(source, topic, part, f"offsets {since} to {last} are gone")
        if after < until:
            what = f"it ends at {after}, and had {until}: the topic was made anew or cut short"
            raise lost(source, topic, part, what)


def topic_ids(spark: SparkSession, source: KafkaSource, topics: Iterable[str]) -> dict[str, str]:
    """The id that the broker gave each topic when it was made; without those of brokers that give none.

    Raises :class:`SourceError` when one of the topics is not there.
    """
    names = sorted(topics)
    with admin_of(spark, source) as admin:
        found = admin.describeTopics(names).topicNameValues()
        ids = {name: str(answer(source, found[name].get, name).topicId().toString()) for name in names}
    return {name: each for name, each in ids.items() if each.strip("A")}  # nothing but A is zero: none


def check_same(source: KafkaSource, known: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise :class:`SourceError` when a topic has another id than it had: it was deleted and made anew.

    An id that is empty is no other.
    """
    for topic in sorted(known.keys() & now.keys()):
        if known[topic] and known[topic] != now[topic]:
            raise SourceError(
                f"topic {topic} at {source.servers} was made anew since the stream began to read it; its offsets "
                "are not those of the old one",
                next_step=ANEW,
                topic=topic,
                servers=source.servers,
            )


def check_whole(spark: SparkSession, source: KafkaSource, topics: Iterable[str]) -> None:
    """Raise :class:`SourceError` when one of the topics is compacted: its past is not what the stream has read."""
    for topic in sorted(topics):
        if "compact" in setting_of(spark, source, topic, "cleanup.policy"):
            raise SourceError(
                f"topic {topic} at {source.servers} is compacted: records that the stream has read may be gone, and "
                "history without them would take their rows out of the table",
                next_step="intervals stay as the stream left them; to be able to repair them, land the topic in a "
                "table first, and read that",
                topic=topic,
                servers=source.servers,
            )


def held_now(spark: SparkSession, source: KafkaSource) -> dict[str, dict[str, tuple[int, int]]]:
    """The first offset that a new stream would read of each partition, and the one that comes next; of named topics.

    Raises as :func:`check_topics`.
    """
    parts = _partitions(spark, source)
    edges = _edges(spark, source, {topic: dict.fromkeys(some, 0) for topic, some in parts.items()})
    starting = {} if isinstance(source.starting, str) else source.starting
    return {
        topic: {
            part: (
                max(edges[topic, part][0], starting.get(topic, {}).get(int(part), 0)),
                edges[topic, part][1],
            )
            for part in some
        }
        for topic, some in parts.items()
    }


def from_here(spark: SparkSession, source: KafkaSource, offsets: Offsets) -> dict[str, dict[str, int]]:
    """Where a new stream begins that is to read on from ``offsets``; partitions that came since, and topics that a pattern finds
    by now, from their first record.
    """
    read = {topic: each for topic, each in offsets.items() if topic in source.named or source.pattern}
    found = {topic: {part: int(at) for part, at in each.items()} for topic, each in read.items()}
    for topic, parts in _partitions(spark, source).items():
        found[topic] = dict.fromkeys(parts, _EARLIEST) | found.get(topic, {})
    return found


def _partitions(spark: SparkSession, source: KafkaSource) -> dict[str, list[str]]:
    """The partitions that a new stream would read, by topic; with a pattern those of the topics that it finds now.

    Raises as :func:`check_topics`.
    """
    check_topics(spark, source)
    parts = {topic: [str(each) for each in some] for topic, some in source.partitions.items()}
    with admin_of(spark, source) as admin:
        topics = list(source.topics)
        if source.pattern is not None:
            jvm: Any = spark._jvm  # noqa: SLF001  Spark has no Python API for a broker's topics
            # As Spark's own source finds them: by any part of the name, and none of the broker's own.
            wanted, there = jvm.java.util.regex.Pattern.compile(source.pattern), admin.listTopics()
            names = map(str, answer(source, lambda: there.names().get()))
            topics = sorted(name for name in names if wanted.matcher(name).find())
        found = admin.describeTopics(topics).topicNameValues()
        for topic in topics:
            known = answer(source, found[topic].get, topic).partitions()
            parts[topic] = [str(known[i].partition()) for i in range(known.size())]
    return parts


def _edges(
    spark: SparkSession, source: KafkaSource, offsets: Offsets
) -> dict[tuple[str, str], tuple[int, int]]:
    """The first offset that each partition holds, and the one that comes next."""
    jvm: Any = spark._jvm  # noqa: SLF001  Spark has no Python API for a broker's offsets
    spec, place = jvm.org.apache.kafka.clients.admin.OffsetSpec, jvm.org.apache.kafka.common.TopicPartition
    places = {(topic, part): place(topic, int(part)) for topic, each in offsets.items() for part in each}

    def edge(found: Any, topic: str, part: str) -> int:
        future = found.partitionResult(places[topic, part])
        return int(answer(source, lambda: future.get().offset(), topic, part))

    with admin_of(spark, source) as admin:
        first, after = (
            admin.listOffsets(dict.fromkeys(places.values(), when))
            for when in (spec.earliest(), spec.latest())
        )
        return {at: (edge(first, *at), edge(after, *at)) for at in places}
