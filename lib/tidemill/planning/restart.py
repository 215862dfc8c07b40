"""A restart: the stream begins anew, where it stands, with states as today's code makes them of all it has read. Pure.

What it has given of intervals that are not complete is computed anew, as far as it had stepped; what it goes on with is kept
beside. One commit publishes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tidemill.errors import PlanError
from tidemill.intervals import interval_at, labels
from tidemill.ledger.judge import NOT_CLEAN, Judged, State
from tidemill.model import Pipeline
from tidemill.planning.plan import CheckGate, Chunk, Diff, Pin, Plan, Sow, Stage, Swap


def why_anew(
    judged: Sequence[Judged], astray: str | None, fingerprint: str, *, held: str | None
) -> str | None:
    """Why what a stream holds, or has given of intervals that are not complete, is not what today's code makes of what it has
    read; None where nothing says so.

    ``astray``: of a fold without a horizon, see :mod:`tidemill.ledger.chain`. ``held``: the code that made what the stream holds.
    """
    if astray is not None:
        return astray
    for each in judged:
        if each.state is State.OPEN and each.detail.marks:
            return f"{each.interval} is open, and not what it should be: {each.detail.marks[0].why}"
        if each.state is State.OPEN and each.detail.writers.keys() - {fingerprint}:
            return f"{each.interval} is open, and other code has begun it"
    # Nothing of it may be in the table yet; and today's code may not be able to go on from it.
    return None if held in (None, fingerprint) else "other code has made what the stream holds"


def plan_restart(
    pipeline: Pipeline,
    judged: Sequence[Judged],
    *,
    why: str,
    carries: bool,
    watermark: int,
    pin: Pin,
    fingerprint: str,
    writer: str,
    downstream: Sequence[str] = (),
) -> Plan:
    """The plan of a restart. ``watermark``: up to when the stream has stepped rows (epoch milliseconds).

    Raises :class:`PlanError` where intervals before its edge are not clean, and it carries states from interval to interval;
    and for rows that are provisional.
    """
    edge = datetime.fromtimestamp(watermark / 1000, UTC)
    amiss = [each.interval for each in judged if carries and each.state in NOT_CLEAN]
    if amiss:
        raise PlanError(
            f"{pipeline.name}: its stream cannot begin anew from states that are not right: {labels(amiss, 3)}",
            next_step=f"tidemill backfill {pipeline.name} --dirty --stale --missing; then restart it",
            intervals=[each.label for each in amiss],
        )
    lent = [each.detail.provisional[-1] for each in judged if each.detail.provisional]
    if lent:
        raise PlanError(
            f"{pipeline.name}: intervals hold provisional rows",
            next_step=f"tidemill undo {lent[-1]}",
            run=lent[-1],
        )
    here = interval_at(pipeline.grain, edge)
    # Of those after it nothing has come out yet; what waits for them is made anew as well.
    intervals = tuple(sorted({here, *(each.interval for each in judged if each.state is State.OPEN)}))
    steps = (
        Stage(intervals),
        Diff(pipeline.table.key),
        CheckGate(pipeline.gate),
        Sow(edge, here.start if carries else None),
        Swap(provisional=False, writer=writer),
    )
    return Plan(
        pipeline=pipeline.name,
        fingerprint=fingerprint,
        grain=pipeline.grain,
        pin=replace(pin, reached=watermark),
        chunks=(Chunk(0, steps, intervals),),
        why={each.label: f"open; {why}" for each in intervals},
        left_out=(),
        downstream=tuple(downstream),
    )
