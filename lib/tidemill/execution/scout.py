"""A look at what a pipeline's inputs hold now: read once, as the stream would read them, and nothing kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.execution.failures import explained
from tidemill.execution.schemas import learn_listed
from tidemill.execution.session import session_of
from tidemill.execution.streamplan import nature
from tidemill.execution.survey import Survey
from tidemill.ledger import inputs
from tidemill.model import DeltaSource, FilesSource, Input, KafkaSource, Pipeline
from tidemill.quality.watch import Watched
from tidemill.sources import kafka_offsets
from tidemill.sources.history import pinned_frame
from tidemill.sources.live import BUCKET_SECONDS, live_frames, observed, watched
from tidemill.sources.rabbitmq_rows import is_there
from tidemill.transforms.apply import transform

CHUNK_ROWS = 20_000_000
"""About so many events are one chunk of history: each chunk reads all of it."""

_BYTES = 200  # of a record in a text file, about
_NOTHING = "nothing yet"
_TAIL_RECORDS, _TAIL_FILES = 20_000, 20


@dataclass(frozen=True, slots=True)
class Scouted:
    """What the inputs hold: ``rows``, of them ``bad`` ones or left out by rules, event times as ``buckets``, and where each input ``ends``.

    ``newest``: an event time of each input that its newest is not below, in epoch seconds; None where it has no row.
    """

    rows: int
    bad: int
    buckets: tuple[int, ...]
    ends: Mapping[str, str]
    newest: Mapping[str, int | None]


def keeps_state(spark: SparkSession, pipeline: Pipeline, root: str) -> bool:
    """Whether the pipeline's transform keeps state. Raises as a live run does of a transform that it refuses."""
    spark = session_of(spark, pipeline)
    learn_listed(spark, pipeline)
    return nature(transform(spark, pipeline, live_frames(spark, pipeline), root)).stateful


def fits_a_batch(spark: SparkSession, pipeline: Pipeline) -> bool:
    """Whether all there is, by offsets and sizes of files, is no more than one chunk of a backfill has.

    False where that cannot be told without reading, and where reading a column of it is cheap.
    """
    rows = 0
    for name in pipeline.moving:
        each = pipeline.inputs[name]
        if each.kafka is not None and each.kafka.named:
            held = kafka_offsets.held_now(spark, each.kafka)
            rows += sum(after - first for parts in held.values() for first, after in parts.values())
        elif each.files is not None and each.files.format != "parquet":
            rows += sum(file.size for file in inputs.list_files(each.files)) // _BYTES
        else:
            return False
    return rows <= CHUNK_ROWS


def glimpse(spark: SparkSession, pipeline: Pipeline) -> datetime | None:
    """Where the stream's watermark will be at least, once it has read all there is; None where that is nowhere yet.

    The newest records of a topic and the newest files are looked at, of other inputs all: what was not seen can only
    move a watermark on. Raises as :func:`scout`.
    """
    spark = session_of(spark, pipeline)
    seconds: list[float] = []
    whole: Scouted | None = None
    for name in pipeline.moving:
        tail = _tail(spark, pipeline, name)
        if tail is None:
            whole = whole or scout(spark, pipeline)
            newest = whole.newest[name]
        else:
            moment = F.unix_seconds(F.max(F.col(pipeline.event_time_of(name).column).cast("timestamp")))
            try:
                good = watched(tail, pipeline, name, Watched.of(pipeline))
                newest = good.agg(moment).collect()[0][0]
            except Exception as error:
                raise explained(error, pipeline) from error
        delay = pipeline.event_time_of(name).watermark
        if newest is None or delay is None:
            return None
        seconds.append(newest - delay.total_seconds())
    return datetime.fromtimestamp(min(seconds), UTC)


def _tail(spark: SparkSession, pipeline: Pipeline, name: str) -> DataFrame | None:
    source = pipeline.inputs[name].source
    if isinstance(source, KafkaSource) and source.named:
        held = kafka_offsets.held_now(spark, source)
        end = {topic: {part: after for part, (_, after) in parts.items()} for topic, parts in held.items()}
        start = {
            topic: {part: max(first, after - _TAIL_RECORDS) for part, (first, after) in parts.items()}
            for topic, parts in held.items()
        }
        return pinned_frame(spark, pipeline, name, {"start": start, "end": end})
    if isinstance(source, FilesSource):
        files = inputs.list_files(source)
        if len(files) > _TAIL_FILES:
            reading = _only_read(pipeline)
            return pinned_frame(spark, reading, name, [file.path for file in files[-_TAIL_FILES:]])
    return None


def scout(spark: SparkSession, pipeline: Pipeline) -> Scouted:
    """Read all inputs once. Raises :class:`SourceError` where one is not there or cannot be read.

    A queue that the stream makes, where it is missing, holds nothing yet, and is not made here.
    """
    spark = session_of(spark, pipeline)
    for each in pipeline.inputs.values():
        if each.kafka is not None:
            kafka_offsets.check_topics(spark, each.kafka)
    # Rows that rules leave out do not move the stream's watermark.
    frames = live_frames(spark, _only_read(Survey.of(None).whole(pipeline)), Watched.of(pipeline))
    rows = bad = 0
    buckets: set[int] = set()
    ends: dict[str, str] = {}
    newest: dict[str, int | None] = {}
    for name in pipeline.moving:
        queue = pipeline.inputs[name].rabbitmq
        if queue is not None and queue.exchange is not None and not is_there(queue):
            ends[name], newest[name] = _NOTHING, None
            continue
        frame = frames[name].select(f"`{pipeline.event_time_of(name).column}`")
        try:
            counts, ends[name] = _counted(frame, pipeline, name)
        except Exception as error:
            raise explained(error, pipeline) from error
        rows, bad = rows + counts[0], bad + counts[1]
        buckets |= counts[2]
        newest[name] = max(counts[2]) * BUCKET_SECONDS if counts[2] else None
    return Scouted(rows, bad, tuple(sorted(buckets)), ends, newest)


def _only_read(pipeline: Pipeline) -> Pipeline:
    found = {name: each if each.static else _looked_at(each) for name, each in pipeline.inputs.items()}
    return pipeline.model_copy(update={"inputs": found})


def _looked_at(each: Input) -> Input:
    if each.files is not None:
        # A file that cannot be read is the live run's to set aside.
        options = {**each.files.options, "ignoreCorruptFiles": "true"}
        return each.model_copy(update={"files": each.files.model_copy(update={"options": options})})
    if each.rabbitmq is not None:
        # A new stream with an exchange makes its queue and binds it: the live run's, too.
        return each.model_copy(update={"rabbitmq": each.rabbitmq.model_copy(update={"exchange": None})})
    return each


def _counted(frame: DataFrame, pipeline: Pipeline, name: str) -> tuple[tuple[int, int, set[int]], str]:
    rows = bad = 0
    buckets: set[int] = set()
    with tempfile.TemporaryDirectory(prefix="tidemill-scout-") as folder:
        writer = frame.writeStream.format("noop").option("checkpointLocation", Path(folder).as_uri())
        query = writer.trigger(availableNow=True).start()
        try:
            query.awaitTermination()
            for progress in query.recentProgress:
                seen = progress["observedMetrics"].get(observed(name))
                if seen is not None:
                    rows, bad = rows + int(seen["rows"]), bad + int(seen["bad"])
                    buckets |= set(seen["buckets"] or ())
        finally:
            query.stop()
        return (rows, bad, buckets), _end(pipeline, name, folder)


def _end(pipeline: Pipeline, name: str, checkpoint: str) -> str:
    source = pipeline.inputs[name].source
    read = inputs.last_committed(checkpoint)
    end = read.ends[0] if read is not None else None
    if end is None:
        return _NOTHING
    if isinstance(source, FilesSource):
        files = inputs.files_read(checkpoint, 0, -1, int(end["logOffset"]))
        return f"{len(files)} files of {source.path}"
    if isinstance(source, DeltaSource):
        return f"{source.path} at version {inputs.delta_version_of(end)}"
    return f"{source.name} up to {inputs.describe_offsets(end)}"
