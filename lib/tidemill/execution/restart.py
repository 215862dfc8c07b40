"""Restart: a stream whose own states are not what its table says begins anew from those, exactly where it stands.

1. Under the stream's lease: nobody reads on meanwhile. The rows of the intervals that are not complete are computed again, as far
   as the stream had stepped them.
2. The states at that moment are written beside the checkpoint, with all rows that wait; see :mod:`tidemill.execution.seeds`.
3. One commit publishes the rows and names the states. Before it all is as it was; after it the stream's next batch begins
   with them. Its checkpoint stays: what it reads next is what it would have read.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tidemill.errors import PlanError
from tidemill.execution import seeds
from tidemill.execution.backfill import Done, Job, execute
from tidemill.execution.fits import check_checkpoint
from tidemill.execution.pins import pin_now
from tidemill.execution.stored import never_anew
from tidemill.ledger import index, inputs
from tidemill.ledger.lease import Lease
from tidemill.planning.plan import Chunk, Plan
from tidemill.planning.recorded import check_not_recorded
from tidemill.planning.restart import plan_restart, why_anew
from tidemill.sinks import writer
from tidemill.view import View, downstream, shape_of

if TYPE_CHECKING:
    from tidemill.engine import Engine

Say = Callable[[str], None]


def restart(engine: Engine, name: str, *, take_over: bool, say: Say) -> Done:
    """See :meth:`tidemill.Engine.restart`."""
    run = engine.new_run()
    pipeline = engine.project.pipeline(name)
    state, clock = pipeline.table.state_path, engine.clock
    foresee(engine, name)  # what can be refused is, before anybody waits for a lease
    with ExitStack() as leases:
        both = [
            leases.enter_context(Lease(state, kind, what=f"restart {run}", clock=clock, take_over=take_over))
            for kind in ("backfill", "live")
        ]
        plan = foresee(engine, name)
        if not plan.chunks:
            return Done(run, name, ())

        def guard() -> None:
            for lease in both:
                lease.check()

        def progress(step: str, chunk: Chunk) -> None:
            del chunk
            say(f"{name}: {step} as of the stream's edge")

        seeds.tidy(pipeline, engine.view(name).coverage.seed)
        done = execute(Job(engine.spark, engine.project, plan, run, guard=guard, progress=progress))
        seeds.tidy(pipeline, index.read(pipeline.table.path, state, shape_of(pipeline)).seed)
        return done


def foresee(engine: Engine, name: str) -> Plan:
    """See :meth:`tidemill.Engine.foresee_restart`."""
    pipeline = engine.project.pipeline(name)
    check_not_recorded(pipeline, "begun anew", "its stream goes on from its events by itself")
    view = engine.view(name)
    _check(view)
    seed = seeds.pending(view.coverage, f"{pipeline.table.state_path}/checkpoint")
    why = why_anew(
        view.judged, view.astray, view.fingerprint, held=view.coverage.live_fingerprint
    ) or seeds.gone(pipeline, seed)
    pin = pin_now(engine.project, pipeline, view.coverage)
    if why is None:
        return Plan(name, view.fingerprint, pipeline.grain, pin, (), {}, ())
    return plan_restart(
        pipeline,
        view.judged,
        why=why,
        carries=view.coverage.carries,
        watermark=view.coverage.watermark or 0,
        pin=pin,
        fingerprint=view.fingerprint,
        writer=writer.choose(pipeline.table.path).text,
        downstream=downstream(engine.project, pipeline),
    )


def _check(view: View) -> None:
    """Raise :class:`PlanError` where no stream could begin anew, or not now."""
    pipeline, coverage = view.pipeline, view.coverage
    name, checkpoint = pipeline.name, f"{pipeline.table.state_path}/checkpoint"
    if not coverage.live or not coverage.stateful or not coverage.watermark:
        raise PlanError(
            f"{name}: no stream of it holds states",
            next_step=f"tidemill run {name}, or tidemill backfill {name}",
        )
    check_checkpoint(pipeline, coverage, checkpoint)
    refused = never_anew(pipeline)
    if refused is None and inputs.committed(checkpoint) != coverage.batch:
        refused = (
            f"batch {coverage.batch} is published, and its run ended before Spark had noted it",
            f"tidemill run {name} --available-now, with the code of then where it refuses today's; then restart it",
        )
    if refused is not None:
        why, next_step = refused
        raise PlanError(f"{name} cannot begin anew: {why}", next_step=next_step, pipeline=name)
