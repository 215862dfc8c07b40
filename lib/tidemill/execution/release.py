"""Release: rows that were set aside go through today's rules again, as a backfill of the intervals they belong to.

What passes is in the table then and no longer in the quarantine; what does not stays where it is. The input is judged, not
the quarantine's copy, so that to ask again releases nothing twice. A row that could not be read belongs to no interval: its
file is read again, and the intervals of all of the file's events are computed; the row leaves the quarantine after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.display.quarantined import released_html, wanted_html
from tidemill.display.words import whose
from tidemill.errors import PlanError
from tidemill.execution import quarantine
from tidemill.execution.pins import pin_now
from tidemill.execution.schemas import learn_set_aside
from tidemill.execution.session import session_of
from tidemill.execution.verbs import backfill
from tidemill.intervals import parse_label
from tidemill.ledger import log
from tidemill.ledger.coverage import IntervalCoverage
from tidemill.ledger.judge import Judged, State, judge
from tidemill.model import Action, Pipeline
from tidemill.planning.forward import forward
from tidemill.planning.plan import Pin, Plan, plan_backfill, to_json
from tidemill.planning.recorded import check_not_recorded
from tidemill.planning.selection import LeftOut, Request, Selection
from tidemill.planning.timed import check_timed
from tidemill.quality.watch import OUTPUT
from tidemill.quarantined import check_input
from tidemill.sinks import writer
from tidemill.sinks.stage import label_of
from tidemill.sinks.table import look
from tidemill.sources.history import pinned_frame
from tidemill.sources.rows import is_bad, origin, required_columns
from tidemill.view import View, downstream, shape_of

if TYPE_CHECKING:
    from tidemill.engine import Engine
    from tidemill.execution.backfill import Done

_GIVEN_UP = "the file cannot be read:%"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows of the quarantine that were asked for: how many, and what is to be computed again for them.

    ``files``: by input, those with rows that could not be read (``unread``, in number), and the intervals that each has events
    for. ``beyond``: rows of files that cannot be read at all. ``version``: of the quarantine in which they were found; -1
    where there is none. ``dropping``: the pipeline's rules that drop, which may leave out what is released.
    """

    where: str
    rows: int
    beyond: int
    files: Mapping[str, Mapping[str, frozenset[str]]]
    plan: Plan
    version: int = -1
    unread: int = 0
    dropping: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values, the plan's among them."""
        return {
            "rows": self.rows,
            "unread": self.unread,
            "beyond": self.beyond,
            "dropping": list(self.dropping),
            **to_json(self.plan),
        }

    def readable(self) -> dict[str, tuple[str, ...]]:
        """By input, the files whose every event is in the table when the plan is done: none waits for the live stream."""
        waiting = {each.interval.label for each in self.plan.left_out}
        done = {
            of: tuple(sorted(file for file, labels in files.items() if not labels & waiting))
            for of, files in self.files.items()
        }
        return {of: files for of, files in done.items() if files}

    def _repr_html_(self) -> str:
        return wanted_html(self)


@dataclass(frozen=True, slots=True)
class Released:
    """What a release did: of the ``rows`` asked for, ``released`` left the quarantine, and ``held`` did not.

    A row is known by its text: one that another code writes otherwise, or with more columns, has left even where it stands anew.
    One that a rule in ``dropping`` leaves out has left, too, and is not in the table. ``left_out``: intervals that the live
    stream is still filling; their rows can be released later.
    """

    pipeline: str
    rows: int
    released: int
    held: int
    left_out: tuple[LeftOut, ...]
    done: Done | None
    dropping: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values; what the backfill did is told by itself."""
        return {
            "pipeline": self.pipeline,
            "rows": self.rows,
            "released": self.released,
            "held": self.held,
            "dropping": list(self.dropping),
            "left_out": [{"interval": each.interval.label, "why": each.why} for each in self.left_out],
            "run": self.done.run if self.done else None,
        }

    def _repr_html_(self) -> str:
        return released_html(self)


def condition(pipeline: Pipeline, where: str | None, reason: str | None, of_input: str | None) -> str:
    """The rows that options mean, as SQL over the quarantine's columns.

    Raises :class:`PlanError` for an empty one, as a script's unset variable is: it would mean every row.
    """
    for name, given in (("where", where), ("reason", reason)):
        if given is not None and not given.strip():
            raise PlanError(
                f"{name} is empty, and would mean every row of the quarantine",
                next_step=f"say which rows are meant, or leave {name} out for every row",
            )
    check_input(pipeline, of_input)
    parts = [] if where is None else [where if reason is None and of_input is None else f"({where})"]
    if reason is not None:
        parts.append(f"exists(reasons, r -> contains(lower(r), lower({_text(reason)})))")
    if of_input is not None:
        parts.append(f"input = {_text(of_input)}")
    return " AND ".join(parts) or "true"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def wanted(engine: Engine, name: str, where: str) -> Wanted:
    """What a release of the rows for which ``where`` holds would do; changes no table.

    The registry is asked again for schemas that rows are set aside for; what it has now is kept.
    Raises :class:`PlanError` where ``where`` is no condition over the quarantine's columns.
    """
    pipeline = engine.project.pipeline(name)
    check_not_recorded(pipeline, "backfilled, and so releases nothing", "send the commands again, corrected")
    check_timed(pipeline, engine.view(name).coverage)
    spark = session_of(engine.spark, pipeline)
    path = pipeline.quarantine_path
    version = look(path).version() if log.exists(path) else -1
    rows = _standing(spark, pipeline, where, version)
    learn_set_aside(spark, pipeline, where)
    view = engine.view(name)
    pin = pin_now(engine.project, pipeline, view.coverage)
    given_up = F.exists("reasons", lambda each: each.like(_GIVEN_UP))
    found = rows.groupBy("input", "interval", F.when(F.col("interval").isNull(), F.col("file")).alias("file"))
    groups = found.agg(F.count("*").alias("n"), F.bool_or(given_up).alias("given_up")).collect()
    unread: dict[str, set[str]] = {}
    needed: dict[str, int] = {}
    for each in groups:
        if each.interval is not None:
            for label in _readers(pipeline, each.input, each.interval):
                needed[label] = needed.get(label, 0) + each.n
        elif each.file is not None and not each.given_up:
            unread.setdefault(each.input, set()).add(each.file)
    files = {of: _labels_in(spark, pipeline, pin, of, some) for of, some in unread.items()}
    for each_of in files.values():
        for label in frozenset[str]().union(*each_of.values()):
            needed.setdefault(label, 0)
    beyond = sum(each.n for each in groups if each.given_up)
    plan = _plan(engine, view, pin, needed)
    return Wanted(
        where,
        rows=sum(each.n for each in groups),
        beyond=beyond,
        files=files,
        plan=plan,
        version=version,
        unread=sum(each.n for each in groups if each.file is not None and not each.given_up),
        dropping=_that_drop(pipeline),
    )


def _that_drop(pipeline: Pipeline) -> tuple[str, ...]:
    """The rules that leave rows out and keep them nowhere. All of them: a row of one input may need another's."""
    suites = [*pipeline.quality.inputs.items(), (OUTPUT, pipeline.quality.suite)]
    return tuple(
        f"{each.id} of {whose(of)}"
        for of, suite in suites
        for each in (suite.expectations if suite else ())
        if each.action is Action.DROP
    )


def _standing(spark: SparkSession, pipeline: Pipeline, where: str, version: int) -> DataFrame:
    try:
        return quarantine.standing(spark, pipeline, where, version=version)
    except (AnalysisException, ParseException) as error:
        raise PlanError(
            # A parser's message begins with an empty line.
            f"{where!r} is no condition over the quarantine: {str(error).strip().splitlines()[0]}",
            next_step=f"its columns: {quarantine.SCHEMA}",
        ) from None


def _readers(pipeline: Pipeline, of: str, label: str) -> Iterable[str]:
    """The intervals that rows of an input's interval are for; a row of the table is for its own."""
    if of == OUTPUT:
        return [label]
    interval = parse_label(pipeline.grain, label)
    return [each.label for each in pipeline.intervals_reading(interval.start, interval.end)]


def _labels_in(
    spark: SparkSession, pipeline: Pipeline, pin: Pin, name: str, files: Iterable[str]
) -> dict[str, frozenset[str]]:
    """The intervals that the readable events in each of these files are for."""
    frame = _of_files(pinned_frame(spark, pipeline, name, pin.inputs[name].read), files)
    event_time = pipeline.event_time_of(name).column
    bad = is_bad(frame, event_time, required_columns(spark, pipeline.inputs[name].source))
    label = label_of(F.col(event_time), pipeline.grain).alias("label")
    found: dict[str, set[str]] = {file: set() for file in files}
    for row in frame.where(~bad).select(origin(frame).alias("file"), label).distinct().collect():
        found[row.file].update(_readers(pipeline, name, row.label))
    return {file: frozenset(labels) for file, labels in found.items()}


def _of_files(frame: DataFrame, files: Iterable[str]) -> DataFrame:
    return frame.where(origin(frame).isin(list(files)))


def _plan(engine: Engine, view: View, pin: Pin, needed: Mapping[str, int]) -> Plan:
    pipeline = view.pipeline
    known = {each.interval.label: each for each in view.judged}
    unknown = {label: IntervalCoverage() for label in needed if label not in known}
    fresh = judge(replace(view.coverage, intervals=unknown), shape_of(pipeline), view.fingerprint)
    judged = sorted(
        (each for each in (*known.values(), *fresh) if each.interval.label in needed),
        key=lambda each: each.interval,
    )
    chosen = [
        Judged(each.interval, each.state, each.why or _why(needed[each.interval.label]), each.detail)
        for each in judged
        if each.state is not State.OPEN
    ]
    left_out = [LeftOut(e.interval, f"open: {e.why}") for e in judged if e.state is State.OPEN]
    selection = Selection(tuple(chosen), tuple(left_out))
    if view.coverage.carries:
        live = view.coverage.live
        selection = forward(selection, view.judged, Request(), grain=pipeline.grain, live=live)
    return plan_backfill(
        pipeline,
        selection,
        fingerprint=view.fingerprint,
        pin=pin,
        writer=writer.choose(pipeline.table.path).text,
        downstream=downstream(engine.project, pipeline),
    )


def _why(rows: int) -> str:
    return f"{rows} rows set aside may be released" if rows else "rows that could not be read may be released"


def release(
    engine: Engine, asked: Wanted, *, forced: str | None, take_over: bool, say: Callable[[str], None]
) -> Released:
    """See :meth:`tidemill.Engine.release`."""
    pipeline = engine.project.pipeline(asked.plan.pipeline)
    done = None
    if asked.plan.chunks:
        done = backfill(
            engine,
            asked.plan,
            None,
            stage_only=False,
            forced=forced,
            take_over=take_over,
            at_once=1,
            say=say,
        )
    spark = session_of(engine.spark, pipeline)
    if done is None or done.refused is None:
        _forget_readable(spark, pipeline, asked, done.run if done else engine.new_run())
    held = _held(spark, pipeline, asked)
    left_out, released = asked.plan.left_out, asked.rows - held
    return Released(pipeline.name, asked.rows, released, held, left_out, done, asked.dropping)


def _held(spark: SparkSession, pipeline: Pipeline, asked: Wanted) -> int:
    """How many of the rows that were asked for stand in the quarantine now: by what they are, not by who wrote them when."""
    if not asked.rows:
        return 0
    # Where an interval is known, copies of a row in several files share a fate; a file may have been compacted since.
    file = F.when(F.col("interval").isNull(), F.col("file")).alias("file")
    what = ("input", "record", "interval", file)
    stood = _standing(spark, pipeline, asked.where, asked.version).select(*what)
    return stood.intersectAll(quarantine.standing(spark, pipeline, "true").select(*what)).count()


def _forget_readable(spark: SparkSession, pipeline: Pipeline, asked: Wanted, run: str) -> None:
    """Take from the quarantine the rows of files that can be read now, where all their events are in their intervals."""
    pin = asked.plan.pin
    upto = "batch IS NULL" if pin.batch is None else f"(batch IS NULL OR batch <= {pin.batch})"
    for name, files in asked.readable().items():
        frame = _of_files(pinned_frame(spark, pipeline, name, pin.inputs[name].read), files)
        still = quarantine.bad_rows(frame, pipeline, name)
        still = still.withColumns({"run": F.lit(run), "batch": F.lit(None).cast("long")})
        some = ", ".join(_text(each) for each in files)
        where = f"input = {_text(name)} AND interval IS NULL AND file IN ({some}) AND {upto}"
        quarantine.replace(still, pipeline, where)
