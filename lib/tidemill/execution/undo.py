"""Takes runs back: what they swapped in, and what they set aside. A crash between the two is carried on by the next try."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import SparkSession

from tidemill.execution.runs import RunFolder
from tidemill.execution.settle import lent, unsettle
from tidemill.execution.swap import Guard, is_published, undo_chunk
from tidemill.ledger.coverage import Coverage
from tidemill.model import Pipeline
from tidemill.protocol import Point, passing
from tidemill.sinks.tables import Table


def undo_run(
    spark: Callable[[], SparkSession], pipeline: Pipeline, table: Table, run: str, guard: Guard = None
) -> tuple[str, ...]:
    """Take back every published chunk of a run, newest first, and what it set aside; give the intervals.

    Of a chunk that died between its two commits, or whose undo did, what it set aside is taken back. ``spark`` is asked only
    where the quarantine is to be put back.
    """
    folder = RunFolder(pipeline.table.state_path, run)
    folder.load_plan()
    undone: list[str] = []
    for manifest in reversed(list(folder.manifests())):
        published = undo_chunk(pipeline, table, manifest, guard)
        if published:
            passing(Point.CHUNK_UNDONE)
        put_back = unsettle(spark, pipeline, folder, manifest)
        undone += manifest.labels if published else put_back
    return tuple(undone)


def take_back(
    spark: SparkSession, pipeline: Pipeline, table: Table, coverage: Coverage, guard: Guard = None
) -> tuple[str, ...]:
    """Undo every provisional swap, so that the stream adds its rows to its own; give the runs.

    What provisional runs have set aside that died before they were published, or while they were undone, is taken back, too:
    the ledger does not know of it, and the stream makes the intervals clean.
    """
    runs = newest_first([list(each.provisional) for each in coverage.intervals.values()])
    for run in runs:
        undo_run(lambda: spark, pipeline, table, run, guard)
    for folder, manifest in lent(pipeline):
        if not is_published(pipeline, table, manifest):
            unsettle(lambda: spark, pipeline, folder, manifest)
    return tuple(runs)


def newest_first(stacks: list[list[str]]) -> list[str]:
    """The runs of these stacks (each oldest first), every run before those that it came on top of."""
    found: list[str] = []
    while any(stacks):
        tops = sorted({stack[-1] for stack in stacks if stack})
        run = next((r for r in tops if not any(r in stack[:-1] for stack in stacks)), tops[-1])
        found.append(run)
        stacks = [[r for r in stack if r != run] for stack in stacks]
    return found
