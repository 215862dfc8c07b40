"""Bootstrap: a new pipeline on an old source. History by backfill, in large chunks; the stream goes on from where that ends.

1. What is decided beforehand is kept: from which interval on the stream makes the rows itself (pipelines with state).
   A stateless one whose history is no more than a chunk has none: its first batch takes all there is, without a limit.
2. Survey: the stream's first batches read all there is. Spark's checkpoint then holds the pin; the table's log, which
   intervals are owed. See :mod:`tidemill.execution.survey`.
3. That the stream stands at the pin is kept. From here on the live stream may run.
4. What is owed is backfilled, as any other backfill.

A crash before 3 leaves a checkpoint that a live run refuses and the next bootstrap goes on with; one after it, intervals
that are missing, and that a bootstrap, or a backfill, computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.display import words
from tidemill.display.runs import done_html
from tidemill.errors import PlanError
from tidemill.execution.fits import check_checkpoint
from tidemill.execution.scout import CHUNK_ROWS, fits_a_batch, glimpse, keeps_state, scout
from tidemill.execution.supervise import run_live
from tidemill.execution.survey import Survey
from tidemill.execution.touched import reached
from tidemill.intervals import Interval, parse_label
from tidemill.ledger import bootstraps, inputs
from tidemill.ledger.bootstraps import Begun
from tidemill.ledger.judge import State
from tidemill.ledger.lease import Lease
from tidemill.model import KafkaSource, Pipeline, RabbitSource, Trigger
from tidemill.planning.plan import Plan, in_chunks_of
from tidemill.planning.recorded import check_not_recorded
from tidemill.planning.selection import Request

if TYPE_CHECKING:
    from tidemill.engine import Engine
    from tidemill.execution.backfill import Done

Say = Callable[[str], None]

_MOST = 400
"""A chunk has at most so many intervals: its commit names each."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a bootstrap would do, or what is left of one.

    ``ends``: what each input held when it was looked at, or up to where the stream has read. ``chunks``: the intervals of
    history, in the order in which they are computed. ``streamed``: from when on the stream makes the rows itself, where the
    pipeline keeps state. ``in_one_batch``: the stream's first batch takes all there is, and nothing is left for chunks.
    """

    pipeline: str
    rows: int
    bad: int
    ends: Mapping[str, str]
    chunks: tuple[tuple[Interval, ...], ...]
    streamed: str | None
    pinned: bool
    in_one_batch: bool


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What a bootstrap did. ``done``: its backfill; None where nothing was left to compute, or there was nothing at all."""

    pipeline: str
    ends: Mapping[str, str]
    done: Done | None

    def _repr_html_(self) -> str:
        return done_html(self.done) if self.done is not None else ""


def bootstrap(
    engine: Engine, name: str, *, newest_first: bool, chunk: int | None, take_over: bool, say: Say
) -> Bootstrapped:
    """See :meth:`tidemill.Engine.bootstrap`."""
    pipeline = engine.project.pipeline(name)
    run = engine.new_run()
    check(engine, pipeline)
    lease = Lease(
        pipeline.table.state_path,
        "backfill",
        what=f"bootstrap {run}",
        clock=engine.clock,
        take_over=take_over,
    )
    with lease:
        known = check(engine, pipeline)
        if known is None or not known.pinned:
            in_chunks = newest_first or chunk is not None
            _pin(engine, pipeline, known, run, in_chunks=in_chunks, take_over=take_over, say=say)
    if not engine.view(name).coverage.live:
        return Bootstrapped(name, {}, None)
    plan = owed(engine, name, newest_first=newest_first, chunk=chunk)
    ends = {name: each.what for name, each in plan.pin.inputs.items()}
    if not plan.chunks:
        return Bootstrapped(name, ends, None)
    say(f"{name}: history up to {'; '.join(ends.values())}: {words.count(len(plan.intervals), 'interval')}")
    return Bootstrapped(name, ends, engine.backfill(plan, take_over=take_over))


def check(engine: Engine, pipeline: Pipeline) -> Begun | None:
    """The bootstrap that has begun to read, if one has.

    Raises :class:`PlanError` for a pipeline whose stream has begun by itself, or whose source begins at its end,
    :class:`StateError` for one whose table was filled by other means.
    """
    check_not_recorded(
        pipeline, "bootstrapped", f"tidemill run {pipeline.name}: its stream decides all there is"
    )
    known = bootstraps.read(pipeline.table.state_path)
    checkpoint = f"{pipeline.table.state_path}/checkpoint"
    begun = inputs.begun(checkpoint)
    if known is None and begun:
        raise PlanError(
            f"{pipeline.name}: its stream has begun already, and reads history as it comes",
            next_step="let it run on; or move table and checkpoint away, and bootstrap anew",
            pipeline=pipeline.name,
        )
    check_checkpoint(pipeline, engine.view(pipeline.name).coverage, checkpoint)
    for name, each in pipeline.inputs.items():
        source = each.source
        if isinstance(source, KafkaSource | RabbitSource) and source.starting in ("latest", "next"):
            raise PlanError(
                f"{pipeline.name}: {name} starts at the end of {source.name}, so there is no history",
                next_step=f"leave {source.kind}.starting away to read from the first record; or run it: "
                f"tidemill run {pipeline.name}",
                input=name,
            )
    # What was decided for a stream that never read is decided anew.
    return known if begun else None


def owed(engine: Engine, name: str, *, newest_first: bool, chunk: int | None) -> Plan:
    """The backfill of what the stream owes."""
    request = Request(states=frozenset({State.MISSING}), newest_first=newest_first)
    plan = engine.plan(name, request)
    rows = engine.view(name).coverage.input_rows
    return in_chunks_of(plan, chunk or _size(len(plan.intervals), rows))


def foresee(engine: Engine, name: str, *, newest_first: bool, chunk: int | None) -> Foreseen:
    """See :meth:`tidemill.Engine.foresee_bootstrap`."""
    pipeline = engine.project.pipeline(name)
    known = check(engine, pipeline)
    if known is not None and known.pinned:
        plan = owed(engine, name, newest_first=newest_first, chunk=chunk)
        seen = engine.view(name).coverage
        ends = {name: each.what for name, each in plan.pin.inputs.items()}
        chunks = tuple(each.intervals for each in plan.chunks)
        bad = seen.quarantined + seen.dropped
        return _foreseen(name, (seen.input_rows, bad), ends, chunks, Survey.of(known.until), pinned=True)
    found = scout(engine.spark, pipeline)
    in_chunks = newest_first or chunk is not None
    survey = Survey.of(known.until) if known else _decided(engine, pipeline, in_chunks=in_chunks)
    intervals = [parse_label(pipeline.grain, label) for label in reached(pipeline, found.buckets)]
    history = sorted((i for i in intervals if i.start < survey.until), reverse=newest_first)
    size = chunk or _size(len(history), found.rows)
    chunks = tuple(tuple(history[i : i + size]) for i in range(0, len(history), size))
    return _foreseen(name, (found.rows, found.bad), found.ends, chunks, survey, pinned=False)


def _foreseen(
    name: str,
    counts: tuple[int, int],
    ends: Mapping[str, str],
    chunks: tuple[tuple[Interval, ...], ...],
    survey: Survey,
    *,
    pinned: bool,
) -> Foreseen:
    whole = survey == Survey.in_one_batch()
    streamed = None if whole else survey.kept
    return Foreseen(name, *counts, ends, chunks, streamed, pinned=pinned, in_one_batch=whole)


def _size(intervals: int, rows: int) -> int:
    """How many intervals a chunk has, so that it has about ``CHUNK_ROWS`` of these rows."""
    chunks = max(1, -(-rows // CHUNK_ROWS), -(-intervals // _MOST))
    return max(1, -(-intervals // chunks))


def _decided(engine: Engine, pipeline: Pipeline, *, in_chunks: bool) -> Survey:
    if keeps_state(engine.spark, pipeline, engine.project.root):
        return Survey.before_watermark(pipeline, glimpse(engine.spark, pipeline))
    # A batch's rows would be sent to the pipeline's topic, and those of chunks not: history is no news either way.
    if not in_chunks and pipeline.sink.kafka is None and fits_a_batch(engine.spark, pipeline):
        return Survey.in_one_batch()
    return Survey.of(None)


def _pin(
    engine: Engine,
    pipeline: Pipeline,
    known: Begun | None,
    run: str,
    *,
    in_chunks: bool,
    take_over: bool,
    say: Say,
) -> None:
    """Have the stream read all there is, so that it stands where history ends."""
    state = pipeline.table.state_path
    say(f"{pipeline.name}: looking at what there is")
    if known is None:
        known = Begun(run, _decided(engine, pipeline, in_chunks=in_chunks).kept)
        bootstraps.begin(state, known)
    (outcome,) = run_live(
        engine.spark,
        engine.project,
        [pipeline],
        run=run,
        clock=engine.clock,
        trigger=Trigger(available_now=True),
        take_over=take_over,
        say=say,
        survey=Survey.of(known.until),
    )
    if outcome.error is not None:
        raise outcome.error
    if not engine.view(pipeline.name).coverage.live:
        # Not one batch: the source is empty, and the stream begins wherever it begins.
        bootstraps.forget(state)
        return
    bootstraps.pinned(state, known)
