"""What a live run asks of brokers before it starts, and notes of its first batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyspark.sql import SparkSession

from tidemill.errors import StateError
from tidemill.ledger import begins, streams, topics
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.streams import Begun
from tidemill.model import KafkaSource, Pipeline, RabbitSource
from tidemill.quality.watch import Seen
from tidemill.sources import kafka_offsets, rabbitmq_rows
from tidemill.sources.live import observed
from tidemill.sources.rabbitmq_stream import declare, end_of


def check_brokers(spark: SparkSession, pipeline: Pipeline, coverage: Coverage) -> None:
    """Raise where a broker lacks what a run of the pipeline is to read on from, or is not to be reached.

    With a queue that is fed by an exchange, a stream that has not begun makes the queue and binds it.
    """
    for name, each in pipeline.inputs.items():
        read = ((coverage.source_end or {}).get(name) or {}).get("offset") or {}
        if each.kafka is not None:
            _check_topics(spark, pipeline, name, each.kafka, read)
        elif each.rabbitmq is not None:
            _check_queue(pipeline, name, each.rabbitmq, read.get("offset"))


def note_read(
    spark: SparkSession, pipeline: Pipeline, start: Mapping[str, Any], end: Mapping[str, Any], seen: Seen
) -> None:
    """Keep what Spark does not: the ids of topics that a pattern has found; of queues where a stream began, and the newest
    record that a batch has read.

    ``start`` and ``end``: of a batch that is not published yet. A stream's first batch of a queue is empty, and its end is
    where it begins. Raises :class:`SourceError` when a new topic's broker does not answer.
    """
    state = pipeline.table.state_path
    for name, each in pipeline.inputs.items():
        offset = (end.get(name) or {}).get("offset")
        if each.kafka is not None and pipeline.recorded and start[name]["offset"] is None:
            begins.note(state, name, start[name]["place"])
        if each.kafka is not None and offset is not None:
            _note_topics(spark, state, name, each.kafka, set(offset) - set(start[name]["offset"] or ()))
        if each.rabbitmq is None or offset is None:
            continue
        if start[name]["offset"] is None and not _goes_on(pipeline, name, each.rabbitmq):
            streams.write(state, name, Begun(each.rabbitmq.queue, int(offset["offset"])))
        last = seen.get(observed(name), {}).get("last")
        if last is not None:
            begun = streams.begun(state, name)
            streams.write(state, name, replace(begun, last=int(last["offset"]), digest=str(last["digest"])))


def _note_topics(spark: SparkSession, state: str, name: str, source: KafkaSource, new: set[str]) -> None:
    """Keep the ids of topics that a batch is the first to read."""
    if not new:
        return
    known = topics.read(state).get(name, {})
    fresh = new - known.keys()
    if fresh:
        found = kafka_offsets.topic_ids(spark, source, fresh)
        topics.write(state, name, known | {topic: found.get(topic, "") for topic in fresh})


def _goes_on(pipeline: Pipeline, name: str, source: RabbitSource) -> bool:
    """Whether a stream that begins goes on where another, whose checkpoint is lost, has ended."""
    known = streams.read(pipeline.table.state_path).get(name)
    return pipeline.recorded and known is not None and known.queue == source.queue


def _check_topics(
    spark: SparkSession, pipeline: Pipeline, name: str, source: KafkaSource, read: Mapping[str, Any]
) -> None:
    state = pipeline.table.state_path
    kafka_offsets.check_topics(spark, source)
    needed = {*source.named, *read}
    now = kafka_offsets.topic_ids(spark, source, needed)
    topics.check_known(state, name, read, now)
    known = topics.read(state).get(name, {})
    # One that nothing was read of may have been made anew.
    kafka_offsets.check_same(source, {topic: known[topic] for topic in read if topic in known}, now)
    kafka_offsets.check_held(spark, source, read, read)
    if source.archive is not None:
        # An archive lands what compaction has left when it comes by: that is no history.
        kafka_offsets.check_whole(spark, source, {*source.named, *read})
    topics.write(state, name, {topic: now.get(topic) or known.get(topic, "") for topic in needed})


def _check_queue(pipeline: Pipeline, name: str, source: RabbitSource, read: int | None) -> None:
    options = rabbitmq_rows.options_of(source)
    if read is None:
        declare(options)
        end_of(options)
        return
    begun = streams.begun(pipeline.table.state_path, name)
    if begun.queue != source.queue:
        raise StateError(
            f"{pipeline.name}: the stream has read queue {begun.queue}, and {name} is now queue {source.queue}; an offset "
            "of one is none of the other",
            next_step="name that queue again, or start on a new table and checkpoint",
            input=name,
        )
    rabbitmq_rows.check_held(options, read, read)
    rabbitmq_rows.check_same(options, begun)
