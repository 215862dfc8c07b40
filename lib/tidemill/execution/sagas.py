"""Event stores and the sagas that ask something of them: two pipelines that read each other's tables, one of which comes first."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import SparkSession

from tidemill.config import Project
from tidemill.deciding.fold import COLUMNS
from tidemill.deciding.frame import POSITION
from tidemill.errors import PlanError
from tidemill.eventsourcing.envelope import EVENT_COLUMNS
from tidemill.execution.refusals import check_rejections
from tidemill.execution.session import session_of
from tidemill.ledger import index, log
from tidemill.model import Pipeline
from tidemill.sinks import stage
from tidemill.sinks.table import LogTable
from tidemill.sources.live import input_schema, static_frame
from tidemill.transforms.apply import transform
from tidemill.view import shape_of


def make_inputs(spark: SparkSession, project: Project, pipelines: Iterable[Pipeline]) -> None:
    """Make, empty, the tables that sagas of event stores among the pipelines have yet to write: a saga reads the store whose
    commands it writes, and one of the two comes first. Its columns are those that its transform gives.
    """
    for pipeline in pipelines:
        for saga in _sagas(project, pipeline):
            if not log.exists(saga.table.path):
                _make_store(spark, pipeline)
                _make(session_of(spark, saga), saga, project.root)


def check_appended(project: Project, pipelines: Iterable[Pipeline]) -> None:
    """Raise :class:`PlanError` where an event store reads commands from an upserted table: what comes with a commit that replaces
    rows a stream passes over, and nothing would decide it.
    """
    for store in pipelines:
        for name, each in store.inputs.items() if store.recorded else ():
            writer = project.writer_of(each.delta.path) if each.delta is not None else None
            if writer is not None and writer.table.mode != "append" and not each.static:
                raise PlanError(
                    f"{store.name}: input {name} is the table of {writer.name}, which is upserted; commands are read once, as they are "
                    "appended",
                    next_step=f"say mode: append in {writer.name}, or write its commands to a table of their own",
                    input=name,
                )


def _sagas(project: Project, store: Pipeline) -> list[Pipeline]:
    """The pipelines whose table a store reads commands from, and that read the store's."""
    if not store.recorded:
        return []
    mine = {store.table.path, store.rejections_path}
    writers = [project.writer_of(each.delta.path) for each in store.inputs.values() if each.delta is not None]
    return [
        saga
        for saga in writers
        if saga is not None
        and any(read.delta is not None and read.delta.path in mine for read in saga.inputs.values())
    ]


def _make_store(spark: SparkSession, pipeline: Pipeline) -> None:
    check_rejections(pipeline)
    kinds = {**COLUMNS, POSITION: "BIGINT"}
    for path, names in (
        (pipeline.table.path, (*EVENT_COLUMNS, POSITION)),
        (pipeline.rejections_path, tuple(kinds)),
    ):
        if not log.exists(path):
            empty = spark.createDataFrame([], ", ".join(f"{name} {kinds[name]}" for name in names))
            LogTable.create(path, pipeline.grain, stage.table_schema(empty, pipeline))


def _make(spark: SparkSession, saga: Pipeline, root: str) -> None:
    frames = {
        name: static_frame(spark, each)
        if each.static
        else spark.createDataFrame([], input_schema(spark, each))
        for name, each in saga.inputs.items()
    }
    asked = transform(spark, saga, frames, root)
    stage.check_columns(asked, saga)
    LogTable.create(saga.table.path, saga.grain, stage.table_schema(asked, saga))


def check_not_asked(project: Project, pipeline: Pipeline, *, changes: bool) -> None:
    """Raise :class:`PlanError` where rows of a table are to be changed (``changes``) that an event store has read as commands.

    What was asked is decided. Rows that are taken away would be commands no more whose events stay; rows that come would be
    commands that nobody decides: a stream does not read what a backfill puts in its place.
    """
    if not changes:
        return
    for store in project.pipelines.values():
        if not store.recorded:
            continue
        ends = index.read(store.table.path, store.table.state_path, shape_of(store)).source_end or {}
        for name, each in store.inputs.items():
            read = (ends.get(name) or {}).get("offset") is not None
            if read and each.delta is not None and each.delta.path == pipeline.table.path:
                raise PlanError(
                    f"{pipeline.name}: rows of {pipeline.table.path} would change, and the event store {store.name} has read "
                    f"them as commands (input {name}): what was asked is decided",
                    next_step=f"leave the intervals as they are; what puts it right are new commands for {store.name}",
                    pipeline=pipeline.name,
                    store=store.name,
                )
