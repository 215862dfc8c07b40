"""What was made of a person's opened fields further down: computing the table anew marks the tables that read it.

A table that is read whole, as it is, makes nothing dirty by its changes; that it was rebuilt since a person was erased does, or
its old rows would stay in what was joined to them. So the mark goes on from table to table, as each is computed again. It is set
before the swap and, where a reader has published something meanwhile, after it too: what was read in between is of before.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from tidemill.config import Project
from tidemill.execution.runs import Manifest
from tidemill.intervals import Grain, parse_label
from tidemill.ledger import index, log
from tidemill.ledger.coverage import ERASED, Coverage
from tidemill.ledger.facts import Erased
from tidemill.model import Pipeline
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion
from tidemill.sinks.target import reopen
from tidemill.view import downstream, shape_of


@contextmanager
def erasure_goes_on(
    project: Project, pipeline: Pipeline, manifest: Manifest, spark: Callable[[], SparkSession]
) -> Iterator[None]:
    """Around the swap of a chunk: where it takes what is left of an erased person, the readers of its intervals are dirty."""
    if not (manifest.staged or manifest.replaced) or not _erased(_known(pipeline), manifest):
        yield
        return
    readers = _readers(project, pipeline)
    marked = {each.name: _mark(each, pipeline, manifest, spark) for each in readers}
    yield
    for each in readers:
        if _version(each) != marked[each.name]:
            _mark(each, pipeline, manifest, spark)


def mark(
    pipeline: Pipeline,
    labels: tuple[str, ...],
    run: str,
    spark: Callable[[], SparkSession],
    guard: Callable[[], None] | None = None,
) -> None:
    """Say in a table's log that these intervals hold something of an erased person.

    It takes no lease: a backfill that is under way has its pin from before the mark, and does not take the mark away.
    """
    table = reopen(pipeline, spark) if labels else None
    if table is None:
        return
    # Each is one of its own: what a mark of before was for may be done, and undone, since.
    app = AppVersion(f"tidemill/{pipeline.name}/erase/{run}/{secrets.token_hex(4)}", 0)
    publish(table, Change((), (), Erased(pipeline.name, run, labels), app), guard)
    index.refresh(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))


def _mark(
    reader: Pipeline, pipeline: Pipeline, manifest: Manifest, spark: Callable[[], SparkSession]
) -> int | None:
    mark(reader, _labels(reader, pipeline, manifest), manifest.run, spark)
    return _version(reader)


def _version(pipeline: Pipeline) -> int | None:
    return log.last_version(pipeline.table.path) if log.exists(pipeline.table.path) else None


def _readers(project: Project, pipeline: Pipeline) -> tuple[Pipeline, ...]:
    """Who reads the table; not event stores, whose rows are facts."""
    return tuple(
        other
        for name in downstream(project, pipeline)
        if name != pipeline.name and not (other := project.pipeline(name)).recorded
    )


def _reads(reader: Pipeline, name: str, pipeline: Pipeline) -> bool:
    source = reader.inputs[name].delta
    return source is not None and source.path == pipeline.table.path


def _labels(reader: Pipeline, pipeline: Pipeline, manifest: Manifest) -> tuple[str, ...]:
    """The intervals of a reader that may hold something of the chunk's: all where it is read whole."""
    known = _known(reader).intervals
    whole = pipeline.grain is Grain.ALL or any(
        reader.inputs[name].static for name in reader.inputs if _reads(reader, name, pipeline)
    )
    if whole:
        return tuple(sorted(known))
    spans = [parse_label(pipeline.grain, label) for label in manifest.labels]
    found = {each.label for span in spans for each in reader.intervals_reading(span.start, span.end)}
    return tuple(sorted(found & known.keys()))


def _known(pipeline: Pipeline) -> Coverage:
    return index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))


def _erased(coverage: Coverage, manifest: Manifest) -> bool:
    held = (coverage.intervals[label] for label in manifest.labels if label in coverage.intervals)
    return any(mark.why == ERASED for each in held for mark in each.marks)
