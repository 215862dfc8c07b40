"""The verbs that change a table: backfill, resume, publish, undo. Each holds the pipeline's backfill lease."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from tidemill.errors import PlanError
from tidemill.execution import swap
from tidemill.execution.backfill import ChunkDone, Done, Job, execute
from tidemill.execution.drift import check_drift
from tidemill.execution.gate import let_pass, with_nulls
from tidemill.execution.runs import Manifest, RunFolder
from tidemill.execution.sagas import check_not_asked
from tidemill.execution.settle import settle
from tidemill.execution.taken import check_nobody_erased, taken_out
from tidemill.execution.undo import undo_run
from tidemill.intervals import labels
from tidemill.ledger import index
from tidemill.ledger.lease import Lease
from tidemill.model import Pipeline
from tidemill.planning import plan as plans
from tidemill.planning.plan import Chunk, Plan
from tidemill.planning.selection import Request
from tidemill.sinks import writer
from tidemill.sinks.tables import Table
from tidemill.sinks.target import reopen
from tidemill.view import shape_of

if TYPE_CHECKING:
    from tidemill.engine import Engine

Say = Callable[[str], None]


def backfill(
    engine: Engine,
    work: str | Plan,
    request: Request | None,
    *,
    stage_only: bool,
    forced: str | None,
    take_over: bool,
    at_once: int,
    say: Say,
    cut: Callable[[Plan], Plan] = lambda plan: plan,
) -> Done:
    """See :meth:`tidemill.Engine.backfill`. ``cut``: into other chunks than the pipeline's."""
    run = engine.new_run()
    name = work if isinstance(work, str) else work.pipeline
    pipeline = engine.project.pipeline(name)
    with ExitStack() as leases:
        lease = leases.enter_context(
            Lease(
                pipeline.table.state_path,
                "backfill",
                what=f"run {run}",
                clock=engine.clock,
                take_over=take_over,
            )
        )
        # Planned under the lease: what another run has just done is not done again.
        plan = cut(engine.plan(name, request)) if isinstance(work, str) else work
        if not isinstance(work, str):
            check_drift(engine.project, plan, lambda: engine.spark)
        if not plan.chunks:
            return Done(run, name, ())
        if plan.provisional:
            leases.enter_context(_no_stream(engine, pipeline, run))
        progress = _progress(plan, say)
        return execute(
            Job(engine.spark, engine.project, plan, run, stage_only, forced, lease.check, progress, at_once)
        )


def _no_stream(engine: Engine, pipeline: Pipeline, run: str) -> Lease:
    """The live lease: a stream takes provisional rows back as it starts, and would add its own to those that came later."""
    return Lease(pipeline.table.state_path, "live", what=f"provisional run {run}", clock=engine.clock)


def _progress(plan: Plan, say: Say) -> Callable[[str, Chunk], None]:
    def progress(step: str, chunk: Chunk) -> None:
        say(f"chunk {chunk.number + 1}/{len(plan.chunks)}: {step} {labels(chunk.intervals, 3)}")

    return progress


def resume(engine: Engine, run: str, *, forced: str | None, say: Say) -> Done:
    """See :meth:`tidemill.Engine.resume`."""
    pipeline = engine.project.pipeline(engine.find_run(run))
    folder = RunFolder(pipeline.table.state_path, run)
    plan = plans.from_json(folder.load_plan(), pipeline, writer=writer.choose(pipeline.table.path).text)
    with ExitStack() as leases:
        lease = leases.enter_context(
            Lease(pipeline.table.state_path, "backfill", what=f"run {run}", clock=engine.clock)
        )
        now = engine.project.fingerprint(pipeline.name)
        if now != plan.fingerprint:
            raise PlanError(
                f"run {run} was made with code {plan.fingerprint[:8]}, and the code is now {now[:8]}",
                next_step="backfill anew",
                run=run,
            )
        table = reopen(pipeline, lambda: engine.spark)
        done = {
            chunk.number
            for chunk in plan.chunks
            if table is not None and (table.app_version(swap.swap_app(pipeline, run, chunk.number)) or 0) % 2
        }
        rest = tuple(chunk for chunk in plan.chunks if chunk.number not in done)
        kept = tuple(ChunkDone(number, "already", folder.load(number)) for number in sorted(done))
        if not rest:
            return Done(run, pipeline.name, kept)
        if plan.provisional:
            leases.enter_context(_no_stream(engine, pipeline, run))
        fresh = plans.repinned(plan, rest, engine.plan(pipeline.name, Request(newest_first=False)).pin)
        job = Job(engine.spark, engine.project, fresh, run, False, forced, lease.check, _progress(fresh, say))
        finished = execute(job)
        return Done(run, pipeline.name, (*kept, *finished.chunks), finished.refused)


def publish_run(engine: Engine, run: str, *, forced: str | None) -> Done:
    """See :meth:`tidemill.Engine.publish`."""
    pipeline, folder, table = _of_run(engine, run)
    done: list[ChunkDone] = []
    with ExitStack() as leases:
        lease = leases.enter_context(
            Lease(pipeline.table.state_path, "backfill", what=f"publish {run}", clock=engine.clock)
        )
        manifests = list(folder.manifests())
        if not manifests:
            raise PlanError(f"run {run} has staged nothing", next_step=f"tidemill resume {run}", run=run)
        if any(each.provisional for each in manifests):
            leases.enter_context(_no_stream(engine, pipeline, run))
        for manifest in manifests:
            if not swap.is_published(pipeline, table, manifest):
                check_nobody_erased(pipeline, manifest, "published")
            check_not_asked(engine.project, pipeline, changes=manifest.changes)
            past = let_pass(pipeline, with_nulls(pipeline, table, manifest), forced)
            settled = partial(settle, lambda: engine.spark, pipeline, folder, manifest)
            erased = taken_out(engine.project, pipeline, manifest)
            published = swap.swap_chunk(pipeline, table, manifest, lease.check, past, settled, erased)
            outcome = _outcome(manifest, already=published.already)
            past = None if published.already else past
            done.append(ChunkDone(manifest.chunk, outcome, manifest, forced=past, erased=erased))
        _refresh(pipeline)
    return Done(run, pipeline.name, tuple(done))


def undo(engine: Engine, run: str) -> tuple[str, ...]:
    """See :meth:`tidemill.Engine.undo`."""
    pipeline, folder, table = _of_run(engine, run)
    check_not_asked(engine.project, pipeline, changes=any(each.changes for each in folder.manifests()))
    with Lease(pipeline.table.state_path, "backfill", what=f"undo {run}", clock=engine.clock) as lease:
        for manifest in folder.manifests():
            if swap.is_published(pipeline, table, manifest):
                check_nobody_erased(pipeline, manifest, "undone")
        undone = undo_run(lambda: engine.spark, pipeline, table, run, lease.check)
        _refresh(pipeline)
    return undone


def _of_run(engine: Engine, run: str) -> tuple[Pipeline, RunFolder, Table]:
    pipeline = engine.project.pipeline(engine.find_run(run))
    folder = RunFolder(pipeline.table.state_path, run)
    if folder.load_plan()["pin"].get("reached") is not None:
        raise PlanError(
            f"{run} is a restart of {pipeline.name}: its stream goes on from there, and nothing takes that back",
            next_step=f"tidemill backfill {pipeline.name} repairs rows; tidemill restart {pipeline.name} begins anew again",
            run=run,
        )
    table = reopen(pipeline, lambda: engine.spark)
    if table is None:
        raise PlanError(f"{pipeline.table.path} is gone", next_step="backfill anew", run=run)
    return pipeline, folder, table


def _outcome(manifest: Manifest, *, already: bool) -> str:
    if already:
        return "already"
    return "swapped" if manifest.staged or manifest.replaced else "equal"


def _refresh(pipeline: Pipeline) -> None:
    index.refresh(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
