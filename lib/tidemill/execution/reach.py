"""What a pipeline holds of a person who is erased, and the marks that have its ledger say so.

The inputs are read once, as they are now, up to where the table has read them; the intervals that rows of the person belong to
are dirty then, "a person was erased". What the inputs do not hold any more may be in a table still that has opened it: so an
interval is marked, too, where rows are gone from what it was made of since, where a table that is read whole has ever lost
rows, and where code of before has opened fields. Too much may be marked, never too little.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.config import Project
from tidemill.erasure.frame import is_of, mentions
from tidemill.execution.pins import pin_now
from tidemill.execution.quarantine import standing
from tidemill.execution.session import session_of
from tidemill.execution.touched import reached
from tidemill.ledger import changes, index, log
from tidemill.ledger.facts import Erased
from tidemill.model import Input, Personal, Pipeline
from tidemill.planning.plan import Pin
from tidemill.planning.timed import check_timed
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion
from tidemill.sinks.target import reopen
from tidemill.sources.history import pinned_frame
from tidemill.sources.live import BUCKET_SECONDS, static_frame
from tidemill.sources.rows import is_bad, required_columns
from tidemill.view import View, lost_above, may_hold_opened, shape_of

if TYPE_CHECKING:
    from tidemill.engine import Engine


@dataclass(frozen=True, slots=True)
class Reached:
    """What a pipeline holds of a person: ``rows`` of its inputs, the ``intervals`` of its table that they belong to, and
    ``set_aside``, the rows of its quarantine. Of an event store ``events`` and ``rejections`` with something sealed of them.
    ``opens``: the table may hold opened fields until it is computed again. ``running``: a live stream is at work,
    whose batch may have had the key. ``beside``: pipelines that have read the table whole, and may hold what is gone from it.
    """

    pipeline: str
    rows: int = 0
    intervals: tuple[str, ...] = ()
    set_aside: int = 0
    events: int = 0
    rejections: int = 0
    opens: bool = False
    running: bool = False
    beside: tuple[str, ...] = ()


def personal_of(pipeline: Pipeline) -> dict[str, Personal]:
    """What is personal in a pipeline's inputs, by name; none where nothing is."""
    return {name: each.personal for name, each in pipeline.inputs.items() if each.personal is not None}


def reach(
    engine: Engine,
    pipeline: Pipeline,
    subject: str,
    *,
    dry_run: bool,
    running: Callable[[], bool],
    say: Callable[[str], None],
) -> Reached | None:
    """What a pipeline holds of a person; and, but for a ``dry_run``, its marks. None: nothing, nor has it personal fields.

    Raises what hinders it. Where it may be that something was not found, all that the ledger knows is marked before.
    """
    view, personal = engine.view(pipeline.name), pipeline.personal
    known, opens = view.coverage, may_hold_opened(pipeline, view.coverage)
    was_running = personal and running()
    if known.version < 0:
        return Reached(pipeline.name, opens=opens, running=was_running) if personal else None
    marks, made = not dry_run and not pipeline.recorded, Reached(pipeline.name)
    try:
        if personal:
            check_timed(pipeline, known)  # by another column its rows would be looked for in other intervals
        if personal or pipeline.recorded:
            say(f"{pipeline.name}: looking for rows of the person")
            made = _looked(engine, view, subject)
        labels = set(made.intervals)
        if opens:
            labels |= known.opened_before(view.fingerprint) | lost_above(engine.project, pipeline, known)
        # Who reads the table whole is dirty with it, where it is.
        beside = _read_whole_before(engine.project, pipeline) if opens and not labels else ()
    except Exception:
        # What cannot be read may be the person's: all that is known is dirty, and so is a batch that is under way.
        if marks:
            mark(
                pipeline,
                tuple(sorted(known.intervals)),
                engine.new_run(),
                lambda: engine.spark,
                known.version,
            )
        raise
    # A batch may have come while all this was read, or come yet, of rows that were not there.
    if marks and (labels or beside or (personal and known.live)):
        found = tuple(sorted(labels))
        mark(pipeline, found, engine.new_run(), lambda: engine.spark, known.version, gone=bool(beside))
        if personal:
            now = engine.view(pipeline.name).coverage.intervals
            labels |= {label for label, each in now.items() if each.touched_at > known.version}
    if not (labels or beside or personal or pipeline.recorded):
        return None
    intervals = () if pipeline.recorded else tuple(sorted(labels))
    is_running = was_running or (personal and running())
    return replace(made, intervals=intervals, opens=opens, running=is_running, beside=beside)


def _looked(engine: Engine, view: View, subject: str) -> Reached:
    """What the pipeline's inputs and tables have of the person, as they are now."""
    pipeline, rows, labels = view.pipeline, 0, set[str]()
    spark = session_of(engine.spark, pipeline)
    if pipeline.personal:
        pin = pin_now(engine.project, pipeline, view.coverage)
        rows, labels = _found(spark, view, pin, subject)
    aside = standing(spark, pipeline, "true").where(mentions([F.col("record")], subject)).count()
    events, rejections = _decided(spark, pipeline, subject)
    return Reached(pipeline.name, rows, tuple(sorted(labels)), aside, events, rejections)


def _decided(spark: SparkSession, pipeline: Pipeline, subject: str) -> tuple[int, int]:
    """How many events and rejections of an event store hold something that is sealed for the person."""
    if not pipeline.recorded:
        return 0, 0
    tables = {pipeline.table.path: ("data",), pipeline.rejections_path: ("data", "reason")}
    events, rejections = (
        spark.read.format("delta").load(path).where(mentions(map(F.col, columns), subject)).count()
        if log.exists(path)
        else 0
        for path, columns in tables.items()
    )
    return events, rejections


def _found(spark: SparkSession, view: View, pin: Pin, subject: str) -> tuple[int, set[str]]:
    """How many rows of the inputs are the person's, and the intervals that they belong to."""
    pipeline, rows, buckets = view.pipeline, 0, set[int]()
    everywhere = False
    for name, personal in personal_of(pipeline).items():
        each = pipeline.inputs[name]
        if each.static:
            frame = static_frame(spark, each)
            count = frame.where(is_of(frame, personal, subject, name)).count()
            gone = count == 0 and bool(personal.open) and _may_have_lost(pipeline, each)
            rows, everywhere = rows + count, everywhere or gone or count > 0
            continue
        frame = pinned_frame(spark, pipeline, name, pin.inputs[name].read)
        time = pipeline.event_time_of(name).column
        good = ~is_bad(frame, time, required_columns(spark, each.source))
        bucket = F.floor(F.unix_seconds(F.col(time).cast("timestamp")) / F.lit(BUCKET_SECONDS))
        of_person = frame.where(good & is_of(frame, personal, subject, name))
        for bucket_, count in of_person.groupBy(bucket.alias("b")).count().collect():
            rows, buckets = rows + count, buckets | {bucket_}
    # A static input is joined to rows of any time.
    known = set(view.coverage.intervals) if everywhere else set()
    return rows, {*known, *reached(pipeline, sorted(buckets))}


def _may_have_lost(pipeline: Pipeline, each: Input) -> bool:
    """Whether a static input may once have held a row that it does not hold now. Of files nothing tells."""
    if each.delta is None or not log.exists(each.delta.path):
        return True
    return changes.read(pipeline.table.state_path, each.delta.path, pipeline.grain).lost_rows


def _read_whole_before(project: Project, pipeline: Pipeline) -> tuple[str, ...]:
    """The pipelines that read the table whole, and may have read a row that is gone; or its quarantine, which does not say."""
    tables = {pipeline.quarantine_path}
    if changes.read(pipeline.table.state_path, pipeline.table.path, pipeline.grain).lost_rows:
        tables.add(pipeline.table.path)
    return tuple(
        other.name
        for other in project.pipelines.values()
        if any(
            each.static and each.delta is not None and each.delta.path in tables
            for each in other.inputs.values()
        )
    )


def mark(
    pipeline: Pipeline,
    labels: tuple[str, ...],
    run: str,
    spark: Callable[[], SparkSession],
    seen: int,
    *,
    gone: bool = False,
) -> None:
    """Say in a table's log that these intervals hold something of an erased person, and what batches have brought since the
    version ``seen`` may, too. ``gone``: so may who has read the table whole, though it does not any more itself.

    It takes no lease: a backfill that is under way has its pin from before the mark, and does not take the mark away.
    """
    table = reopen(pipeline, spark)
    if table is None:
        return
    # Each is one of its own: what a mark of before was for may be done, and undone, since.
    app = AppVersion(f"tidemill/{pipeline.name}/erase/{run}/{secrets.token_hex(4)}", 0)
    publish(table, Change((), (), Erased(pipeline.name, run, labels, seen, gone), app))
    index.refresh(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
