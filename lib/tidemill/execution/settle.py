"""What rules set aside of a backfill's chunk: staged beside the chunk's files, and in the quarantine before they are swapped.

Rows that rules set aside belong to an interval, as those that they let on do. A chunk replaces both: first, in one commit,
the quarantine's rows of its intervals, then the table's. Rows that live batches after the pin have set aside stay. A crash
between the two leaves the interval as it was to the ledger, and the quarantine's version before is kept with the chunk: who
comes next puts back what stood, or does both again (ADR 11 has the exception).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace as changed

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.errors import StateError
from tidemill.execution.quarantine import SCHEMA, output_rows, replace, ruled_rows, standing
from tidemill.execution.runs import Aside, Manifest, RunFolder, list_runs
from tidemill.execution.standing import came_to
from tidemill.intervals import Interval
from tidemill.ledger import log
from tidemill.model import Pipeline
from tidemill.planning.plan import Pin
from tidemill.protocol import Point, passing
from tidemill.quality.watch import Watched
from tidemill.sinks import stage
from tidemill.sinks.files import DataFile
from tidemill.sinks.table import look
from tidemill.sinks.tables import Table
from tidemill.sources.history import pinned_frame, within
from tidemill.storage import parquet, walk


def stage_aside(
    spark: SparkSession,
    pipeline: Pipeline,
    pin: Pin,
    intervals: Sequence[Interval],
    watched: Watched,
    table: Table,
    files: tuple[DataFile, ...],
    folder: RunFolder,
    chunk: int,
) -> Aside | None:
    """Stage the rows of a chunk that rules set aside; None where the quarantine holds just these already.

    ``files``: those of the output. No Spark job where there are none, and none stand. What an attempt that died has put into
    the quarantine is taken back first: what stands then is what undo puts back, with rows that live batches have set aside since.
    """
    died = folder.load(chunk)
    if died is not None:
        unsettle(lambda: spark, pipeline, folder, died)
    labels = [interval.label for interval in intervals]
    inputs = [name for name in pipeline.quality.inputs if watched.may_keep(name)]
    stands = _standing_rows(pipeline, labels, pin.batch)
    if not inputs and not files and not stands:
        return None
    reach = stage.ranges(intervals)
    parts = [
        ruled_rows(
            pinned_frame(spark, pipeline, name, pin.inputs[name].read, reach).where(
                within(pipeline, name, reach)
            ),
            pipeline,
            name,
        )
        for name in inputs
    ]
    if files:
        parts.append(output_rows(spark, pipeline, table, files))
    attempt = secrets.token_hex(4)
    at = folder.aside(chunk, attempt)
    nothing = spark.createDataFrame([], SCHEMA).drop("run", "batch")
    for number, part in enumerate([nothing, *parts]):
        part.write.mode("append" if number else "overwrite").parquet(str(at))
    table.discard(files)
    return Aside(
        sum(pq.read_metadata(parquet(at / file.path)).num_rows for file in walk(at)),
        stands,
        pin.batch,
        attempt=attempt,
    )


def _standing_rows(pipeline: Pipeline, labels: list[str], until: int | None) -> int:
    """How many rows of these intervals the quarantine holds up to a batch. No JVM."""
    if not log.exists(pipeline.quarantine_path):
        return 0
    held = look(pipeline.quarantine_path).to_pyarrow_dataset()
    if "interval" not in held.schema.names:
        return 0
    of_backfills = pc.field("batch").is_null()
    upto = of_backfills if until is None else of_backfills | (pc.field("batch") <= until)
    return int(held.count_rows(filter=pc.field("interval").isin(labels) & upto))


def _where(labels: Sequence[str], aside: Aside) -> str:
    some = ", ".join(f"'{label}'" for label in labels)
    upto = "batch IS NULL" if aside.until is None else f"(batch IS NULL OR batch <= {aside.until})"
    return f"interval IN ({some}) AND {upto}"


def settle(
    spark: Callable[[], SparkSession], pipeline: Pipeline, folder: RunFolder, manifest: Manifest
) -> None:
    """Put what a chunk sets aside into the quarantine, in place of what stands; done again, it is the same.

    The kept manifest knows then what to put back. Raises :class:`StateError` when the staged rows are gone.
    """
    manifest = folder.load(manifest.chunk) or manifest
    aside = manifest.aside
    if aside is None:
        return
    if aside.before is None:
        path = pipeline.quarantine_path
        before = look(path).version() if log.exists(path) else -1
        folder.save(changed(manifest, aside=changed(aside, before=before)))
    place = folder.aside(manifest.chunk, aside.attempt)
    if not place.is_dir():
        raise StateError(
            f"run {manifest.run}: the rows that chunk {manifest.chunk + 1} sets aside are gone from {place}",
            next_step="backfill the intervals again; nothing was published",
            run=manifest.run,
        )
    rows = spark().read.parquet(str(place))
    named = rows.withColumns({"run": F.lit(manifest.run), "batch": F.lit(None).cast("long")})
    replace(named, pipeline, _where(manifest.labels, aside))
    passing(Point.QUARANTINE_SETTLED)


def unsettle(
    spark: Callable[[], SparkSession], pipeline: Pipeline, folder: RunFolder, manifest: Manifest
) -> tuple[str, ...]:
    """Put back what stood in the quarantine before a chunk that is not published, or no more; give the intervals.

    Not of intervals that another run has settled since. Done again, there is nothing to do: it gives none.
    """
    aside = manifest.aside
    if aside is None or aside.before is None:
        return ()
    others = came_to(pipeline, manifest)
    labels = tuple(label for label in manifest.labels if label not in others)
    if labels:
        where = _where(labels, aside)
        replace(standing(spark(), pipeline, where, version=aside.before), pipeline, where)
    folder.save(changed(manifest, aside=changed(aside, before=None)))
    return labels


def lent(pipeline: Pipeline) -> list[tuple[RunFolder, Manifest]]:
    """The provisional chunks whose rows are in the quarantine, who came last first; published or not."""
    found = list(_lent(pipeline)) if log.exists(pipeline.quarantine_path) else []
    return [(folder, manifest) for _, folder, manifest in sorted(found, key=lambda each: -each[0])]


def _lent(pipeline: Pipeline) -> Iterator[tuple[int, RunFolder, Manifest]]:
    state = pipeline.table.state_path
    for run in list_runs(state):
        folder = RunFolder(state, run)
        for chunk in folder.with_aside():
            manifest = folder.load(chunk)
            if manifest is None:
                continue
            if not manifest.provisional:
                break  # nor is the rest of its run
            if manifest.aside is not None and manifest.aside.before is not None:
                yield manifest.aside.before, folder, manifest
