"""A look at what a pipeline's inputs hold now: read once, as the stream would read them, and nothing kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from tidemill.execution.failures import explained
from tidemill.execution.schemas import learn_listed
from tidemill.execution.session import session_of
from tidemill.execution.streamplan import nature
from tidemill.execution.survey import Survey
from tidemill.ledger import inputs
from tidemill.model import DeltaSource, FilesSource, Pipeline
from tidemill.sources import kafka_offsets
from tidemill.sources.live import BUCKET_SECONDS, live_frames, observed
from tidemill.transforms.apply import transform


@dataclass(frozen=True, slots=True)
class Scouted:
    """What the inputs hold: ``rows``, of them ``bad`` ones, event times as ``buckets``, and where each input ``ends``.

    ``watermark``: where the stream's will be at least, once it has read as far; None where an input has no row.
    """

    rows: int
    bad: int
    buckets: tuple[int, ...]
    ends: Mapping[str, str]
    watermark: datetime | None


def keeps_state(spark: SparkSession, pipeline: Pipeline, root: str) -> bool:
    """Whether the pipeline's transform keeps state. Raises as a live run does of a transform that it refuses."""
    spark = session_of(spark, pipeline)
    learn_listed(spark, pipeline)
    return nature(transform(spark, pipeline, live_frames(spark, pipeline), root)).stateful


def scout(spark: SparkSession, pipeline: Pipeline) -> Scouted:
    """Read all inputs once. Raises :class:`SourceError` where one is not there or cannot be read."""
    spark = session_of(spark, pipeline)
    for each in pipeline.inputs.values():
        if each.kafka is not None:
            kafka_offsets.check_topics(spark, each.kafka)
    frames = live_frames(spark, _lenient(Survey.of(None).whole(pipeline)))
    rows = bad = 0
    buckets: set[int] = set()
    ends: dict[str, str] = {}
    reached: list[float | None] = []
    for name in pipeline.moving:
        frame = frames[name].select(f"`{pipeline.event_time_of(name).column}`")
        try:
            counts, ends[name] = _counted(frame, pipeline, name)
        except Exception as error:
            raise explained(error, pipeline) from error
        rows, bad = rows + counts[0], bad + counts[1]
        buckets |= counts[2]
        delay = pipeline.event_time_of(name).watermark
        known = delay is not None and counts[2]
        reached.append(max(counts[2]) * BUCKET_SECONDS - delay.total_seconds() if delay and known else None)
    seconds = [each for each in reached if each is not None]
    watermark = datetime.fromtimestamp(min(seconds), UTC) if len(seconds) == len(reached) else None
    return Scouted(rows, bad, tuple(sorted(buckets)), ends, watermark)


def _lenient(pipeline: Pipeline) -> Pipeline:
    # A file that cannot be read is the live run's to set aside.
    def with_option(source: FilesSource) -> FilesSource:
        return source.model_copy(update={"options": {**source.options, "ignoreCorruptFiles": "true"}})

    return pipeline.model_copy(
        update={
            "inputs": {
                name: each.model_copy(update={"files": with_option(each.files)})
                if each.files is not None and not each.static
                else each
                for name, each in pipeline.inputs.items()
            }
        }
    )


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
        return "nothing yet"
    if isinstance(source, FilesSource):
        files = inputs.files_read(checkpoint, 0, -1, int(end["logOffset"]))
        return f"{len(files)} files of {source.path}"
    if isinstance(source, DeltaSource):
        return f"{source.path} at version {inputs.delta_version_of(end)}"
    return f"{source.name} up to {inputs.describe_offsets(end)}"
