"""A staged chunk of upserts brought up to a later pin: the rows of what came since, merged into what was staged.

A rebuild of a read model beside a busy stream would lose every race, if it began anew each time: all of history takes longer
than a batch. What it staged holds for each key the greatest row of the input up to its pin; the greatest of that and
of what the input brought since is what it would stage now. That is so where each row comes from one event alone, and as long as
the input only grew: no state, no rules to count by, no rows replaced upstream, and what is read whole beside them as it was.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from tidemill.erasure.frame import personal_rows
from tidemill.errors import StateError, TidemillError
from tidemill.execution.between import input_between
from tidemill.execution.streamplan import nature
from tidemill.execution.swap import Staged
from tidemill.intervals import Interval
from tidemill.ledger import inputs, log
from tidemill.ledger.facts import Erased
from tidemill.model import DeltaSource, FilesSource, Pipeline, Quality
from tidemill.planning.plan import Pin
from tidemill.sinks import stage
from tidemill.sinks.content import read_files
from tidemill.sinks.rows import stage_rows
from tidemill.sinks.stage import LABEL
from tidemill.sources.history import good_rows
from tidemill.sources.live import live_frames, static_frame
from tidemill.transforms.apply import transform


def may_follow(spark: SparkSession, pipeline: Pipeline, root: str) -> bool:
    """Whether a staged chunk of the pipeline can be brought up to a later pin at all. Runs nothing."""
    if pipeline.table.mode != "upsert" or pipeline.quality != Quality():
        return False
    try:
        return not nature(transform(spark, pipeline, live_frames(spark, pipeline), root)).stateful
    except (TidemillError, PySparkException):
        # Code that no stream would take may still be backfilled.
        return False


def only_grew(pipeline: Pipeline, before: Pin, now: Pin) -> bool:
    """Whether the stream has gone on from one pin to the other, and its inputs lost or changed nothing between them."""
    if not (before.live and now.live) or _erased_between(pipeline, before, now):
        return False
    for name in pipeline.moving:
        source = pipeline.inputs[name].source
        if isinstance(source, FilesSource) and source.row_schema is None:
            return False  # where no file came, nothing would say what columns there are
        if isinstance(source, DeltaSource):
            first, last = int(before.inputs[name].read), int(now.inputs[name].read)
            if not log.only_appended(source.path, first, last):
                return False
    return True


def _erased_between(pipeline: Pipeline, before: Pin, now: Pin) -> bool:
    """Whether a person was erased between two pins: what was staged at the first may have been made with their key."""
    commits = log.commits_after(pipeline.table.path, before.version, pipeline.grain)
    try:
        return any(each.version <= now.version and isinstance(each.fact, Erased) for each in commits)
    except StateError:
        return True  # upkeep has cleaned what would say


def beside(pipeline: Pipeline) -> dict[str, Any]:
    """What a pipeline's static inputs are now: versions of tables, the files of folders. Equal: they have not changed."""
    found: dict[str, Any] = {}
    for name, each in pipeline.inputs.items():
        if each.static and isinstance(each.source, DeltaSource):
            found[name] = log.last_version(each.source.path)
        elif each.static and isinstance(each.source, FilesSource):
            found[name] = [(file.path, file.size, file.modified) for file in inputs.list_files(each.source)]
    return found


def follow(
    spark: SparkSession,
    pipeline: Pipeline,
    staged: Staged,
    pin: Pin,
    intervals: tuple[Interval, ...],
    root: str,
) -> Staged:
    """What was staged, brought up to ``pin``: new files, which nothing names, and what stands in their place there.

    The files it was made of stay. Two Spark jobs over what was staged and what came since.
    """
    reach = stage.ranges([Interval(*pipeline.input_range(each), each.grain) for each in intervals])
    checkpoint = f"{pipeline.table.state_path}/checkpoint"
    frames = {}
    for name, each in pipeline.inputs.items():
        if each.static:
            frames[name] = personal_rows(static_frame(spark, each), each, name)
            continue
        parts = input_between(spark, pipeline, name, checkpoint, staged.pin.source_end, pin.source_end)
        came = reduce(DataFrame.unionByName, parts)
        frames[name] = personal_rows(good_rows(spark, pipeline, name, came, reach), each, name)
    fresh = transform(spark, pipeline, frames, root).where(stage.within(pipeline, intervals))
    before = read_files(spark, pipeline, staged.table, staged.files, staged.schema).drop(LABEL)
    table = staged.table
    table.refresh()
    files = stage_rows(table, before.unionByName(fresh), pipeline)
    labels = {each.label for each in intervals}
    stands = tuple(file for file in table.files_at(pin.version).values() if file.label in labels)
    return replace(staged, pin=pin, files=files, stands=stands)
