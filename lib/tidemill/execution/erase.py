"""Erase: a person's key goes, and the intervals that hold something of the person are dirty until they are computed again.

First the key: from then on nobody can open what was sealed with it, in tables, states, quarantine, and old versions of them.
Then each pipeline of the project with personal fields reads its inputs once, up to where the table has read them, and the
intervals that rows of the person belong to are marked in the table's log. Tables that hold opened fields still have them
until a backfill; and what was read from those tables is dirty then, as after any change upstream. A crash in between leaves
a key that is gone and marks that are missing: erasing again makes them. So does a pipeline whose input cannot be read: the
others are marked, and its error is raised. An event store's rows are facts, and stay as they are: sealed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.config import Project
from tidemill.erasure.frame import is_of, mentions
from tidemill.erasure.keys import key_store
from tidemill.errors import PlanError, TidemillError
from tidemill.execution.failures import explained
from tidemill.execution.pins import pin_now
from tidemill.execution.quarantine import standing
from tidemill.execution.same_keys import check_keys
from tidemill.execution.session import session_of
from tidemill.execution.touched import reached
from tidemill.ledger import index, log
from tidemill.ledger.facts import Erased
from tidemill.model import Personal, Pipeline
from tidemill.planning.plan import Pin
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion
from tidemill.sinks.target import reopen
from tidemill.sources.history import pinned_frame
from tidemill.sources.live import BUCKET_SECONDS, static_frame
from tidemill.sources.rows import is_bad, required_columns
from tidemill.view import View, downstream, shape_of

if TYPE_CHECKING:
    from tidemill.engine import Engine


@dataclass(frozen=True, slots=True)
class Reached:
    """What a pipeline holds of a person: ``rows`` of its inputs, the ``intervals`` of its table that they belong to, and
    ``set_aside``, the rows of its quarantine. Of an event store ``events`` and ``rejections`` with something sealed of them.
    ``opens``: the table may hold opened fields until it is computed again. ``running``: a live stream is at work,
    whose batch may have had the key.
    """

    pipeline: str
    rows: int = 0
    intervals: tuple[str, ...] = ()
    set_aside: int = 0
    events: int = 0
    rejections: int = 0
    opens: bool = False
    running: bool = False


@dataclass(frozen=True, slots=True)
class Erasure:
    """What became of a person's fields. ``keys``: how many keys there were, and are gone (with ``dry_run``: would be).

    ``backfill``: the pipelines that are to be computed anew, and what reads their tables, in this order. ``maintain``: those of
    them whose old versions may hold opened fields.
    """

    keys: int
    pipelines: tuple[Reached, ...]
    dry_run: bool
    backfill: tuple[str, ...] = ()
    maintain: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values; not the person's name."""
        return asdict(self)


def erase(engine: Engine, subject: str, *, dry_run: bool, say: Callable[[str], None]) -> Erasure:
    """See :meth:`tidemill.Engine.erase`."""
    pipelines = [each for each in engine.project.pipelines.values() if _personal(each)]
    if not pipelines:
        raise PlanError(
            "no pipeline of the project has personal fields",
            next_step="say personal at the input whose rows are a person's: see the guide on erasure",
        )
    for each in pipelines:
        check_keys(each, note=False)
    stores = {p.keys: key_store(p.keys) for each in pipelines for p in _personal(each).values()}
    running = {each.name for each in pipelines if _running(engine, each)}
    if dry_run:
        gone = sum(keys.known([subject]).get(subject) is not None for keys in stores.values())
    else:
        gone = sum(keys.erase(subject) for keys in stores.values())
    found, problems = [], list[TidemillError]()
    # An event store may have been given commands that were sealed before.
    stores_too = [each for each in engine.project.pipelines.values() if each.recorded and not _personal(each)]
    for each in (*pipelines, *stores_too):
        try:
            found.append(_reach(engine, each, subject, dry_run, say, running=each.name in running))
        except Exception as error:  # noqa: BLE001  Spark may raise anything where an input cannot be read
            # The key is gone already: what can be marked is.
            problems.append(explained(error, each))
    if problems:
        raise problems[0]
    anew = [each for each in found if each.intervals]
    return Erasure(
        keys=gone,
        pipelines=tuple(found),
        dry_run=dry_run,
        backfill=_in_turn(engine.project, [each.pipeline for each in anew]),
        maintain=_in_turn(engine.project, [each.pipeline for each in anew if each.opens]),
    )


def _running(engine: Engine, pipeline: Pipeline) -> bool:
    return any(status.running for status in engine.status(pipeline.name))


def _personal(pipeline: Pipeline) -> dict[str, Personal]:
    return {name: each.personal for name, each in pipeline.inputs.items() if each.personal is not None}


def _reach(
    engine: Engine,
    pipeline: Pipeline,
    subject: str,
    dry_run: bool,  # noqa: FBT001  # asked for by name where people call
    say: Callable[[str], None],
    *,
    running: bool,
) -> Reached:
    view = engine.view(pipeline.name)
    if view.coverage.version < 0:
        return Reached(pipeline.name, opens=pipeline.opens, running=running)
    say(f"{pipeline.name}: looking for rows of the person")
    spark = session_of(engine.spark, pipeline)
    rows, labels = 0, tuple[str, ...]()
    if _personal(pipeline):
        try:
            rows, labels = _found(spark, view, pin_now(engine.project, pipeline, view.coverage), subject)
        except Exception:
            # What cannot be read may be the person's: all that is known is dirty, and so is a batch that is under way.
            if not dry_run and not pipeline.recorded:
                every = tuple(sorted(view.coverage.intervals))
                mark(pipeline, every, engine.new_run(), lambda: engine.spark, view.coverage.version)
            raise
    aside = standing(spark, pipeline, "true").where(mentions([F.col("record")], subject)).count()
    events, rejections = _decided(spark, pipeline, subject)
    if pipeline.recorded:
        labels = ()
    # A batch may have come while all this was read, or come yet, of rows that were not there.
    elif not dry_run and (labels or view.coverage.live):
        mark(pipeline, labels, engine.new_run(), lambda: engine.spark, view.coverage.version)
        now = engine.view(pipeline.name).coverage.intervals
        came = (label for label, each in now.items() if each.touched_at > view.coverage.version)
        labels = tuple(sorted({*labels, *came}))
    running = running or _running(engine, pipeline)
    return Reached(
        pipeline.name, rows, labels, aside, events, rejections, opens=pipeline.opens, running=running
    )


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


def _found(spark: SparkSession, view: View, pin: Pin, subject: str) -> tuple[int, tuple[str, ...]]:
    """How many rows of the inputs are the person's, and the intervals that they belong to."""
    pipeline, rows, buckets = view.pipeline, 0, set[int]()
    everywhere = False
    for name, personal in _personal(pipeline).items():
        each = pipeline.inputs[name]
        if each.static:
            frame = static_frame(spark, each)
            count = frame.where(is_of(frame, personal, subject, name)).count()
            rows, everywhere = rows + count, everywhere or count > 0
            continue
        frame = pinned_frame(spark, pipeline, name, pin.inputs[name].read)
        time = pipeline.event_time_of(name).column
        good = ~is_bad(frame, time, required_columns(spark, each.source))
        bucket = F.floor(F.unix_seconds(F.col(time).cast("timestamp")) / F.lit(BUCKET_SECONDS))
        of_person = frame.where(good & is_of(frame, personal, subject, name))
        for bucket_, count in of_person.groupBy(bucket.alias("b")).count().collect():
            rows, buckets = rows + count, buckets | {bucket_}
    # A static input is joined to rows of any time.
    known = sorted(view.coverage.intervals) if everywhere else []
    return rows, tuple(sorted({*known, *reached(pipeline, sorted(buckets))}))


def mark(
    pipeline: Pipeline, labels: tuple[str, ...], run: str, spark: Callable[[], SparkSession], seen: int
) -> None:
    """Say in a table's log that these intervals hold something of an erased person, and what batches have brought since the
    version ``seen`` may, too.

    It takes no lease: a backfill that is under way has its pin from before the mark, and does not take the mark away.
    """
    table = reopen(pipeline, spark)
    if table is None:
        return
    # Each is one of its own: what a mark of before was for may be done, and undone, since.
    app = AppVersion(f"tidemill/{pipeline.name}/erase/{run}/{secrets.token_hex(4)}", 0)
    publish(table, Change((), (), Erased(pipeline.name, run, labels, seen), app))
    index.refresh(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))


def _in_turn(project: Project, names: Iterable[str]) -> tuple[str, ...]:
    """These pipelines and those that read their tables, at any remove, each after what it reads; not event stores."""
    done: list[str] = []
    seen = set[str]()

    def visit(name: str) -> None:
        if name in seen or project.pipeline(name).recorded:
            return
        seen.add(name)
        for reader in downstream(project, project.pipeline(name)):
            visit(reader)
        done.append(name)

    for name in names:
        visit(name)
    return tuple(reversed(done))


def left_to_do(found: Erasure) -> Iterable[str]:
    """The commands that take what is left of the person out of tables."""
    yield from (f"tidemill backfill {name} --dirty" for name in found.backfill)
    yield from (f"tidemill maintain {name}" for name in found.maintain)
