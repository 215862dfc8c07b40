"""Verify: recompute intervals and compare them with what the table holds. Publishes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tidemill.display.runs import verified_html
from tidemill.errors import PlanError
from tidemill.execution import swap
from tidemill.execution.failures import explained
from tidemill.execution.pins import pin_now
from tidemill.execution.runs import Manifest
from tidemill.execution.session import session_of
from tidemill.intervals import Grain, Interval, labels, parse_label
from tidemill.ledger import chain
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.judge import State
from tidemill.model import Pipeline
from tidemill.planning.plan import Plan, plan_backfill
from tidemill.planning.recorded import check_not_recorded
from tidemill.planning.selection import Request

if TYPE_CHECKING:
    from tidemill.engine import Engine

_CLEAN = frozenset({State.CLEAN})


@dataclass(frozen=True, slots=True)
class Differing:
    """An interval whose rows are not what the code gives, or whose rows change with a longer reach."""

    interval: str
    missing: int
    unexpected: int
    why: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found. ``samples``: some of the differing rows, as the recomputation has them (+)
    and as the table has them (-).
    """

    pipeline: str
    intervals: tuple[str, ...]
    differing: tuple[Differing, ...]
    samples: tuple[dict[str, Any], ...]
    key: tuple[str, ...] = ()
    """The columns by which rows of both sides belong together."""

    @property
    def holds(self) -> bool:
        """Whether every interval held exactly what the code gives."""
        return not self.differing

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pipeline": self.pipeline,
            "intervals": list(self.intervals),
            "differing": [{n: getattr(d, n) for n in Differing.__slots__} for d in self.differing],
            "samples": list(self.samples),
            "holds": self.holds,
        }

    def _repr_html_(self) -> str:
        return verified_html(self)


def verify(
    engine: Engine, name: str, request: Request, *, probe: bool, say: Callable[[str], None]
) -> Verified:
    """Recompute the clean intervals of a range (all, when the request names states) and compare."""
    check_not_recorded(engine.project.pipeline(name), "verified")
    view = engine.view(name)
    pipeline = view.pipeline
    if probe and pipeline.grain is Grain.ALL:
        raise PlanError(
            f"{name} has one interval, all of time: no reach of it can be too short",
            next_step="verify it without --probe",
            pipeline=name,
        )
    request = request if request.states else replace(request, states=_CLEAN)
    selection = view.select(request, engine.clock.now())
    pin = pin_now(engine.project, pipeline, view.coverage)
    plan = plan_backfill(pipeline, selection, fingerprint=view.fingerprint, pin=pin, writer="nothing")
    differing, samples = _compare(engine, pipeline, plan, "differs from the code's result", say)
    if probe and view.coverage.carries:
        say("its fold has no horizon, and so no reach to double")
    elif probe:
        wider, more = _compare(engine, _widened(pipeline), plan, "changes with a doubled reach", say)
        known = {each.interval for each in differing}
        differing += [each for each in wider if each.interval not in known]
        samples += more
    labelled = tuple(interval.label for interval in plan.intervals)
    return Verified(name, labelled, tuple(differing), tuple(samples), pipeline.table.key)


def _widened(pipeline: Pipeline) -> Pipeline:
    # Doubling nothing is nothing: a pipeline that declares no reach is probed by one interval.
    grain = _length(pipeline)
    return pipeline.model_copy(
        update={
            "lookback": max(2 * pipeline.lookback, grain),
            "lookahead": max(2 * pipeline.lookahead, grain),
        }
    )


def _length(pipeline: Pipeline) -> timedelta:
    return {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=31)}[
        pipeline.grain.value
    ]


def _compare(
    engine: Engine, pipeline: Pipeline, plan: Plan, why: str, say: Callable[[str], None]
) -> tuple[list[Differing], list[dict[str, Any]]]:
    differing: list[Differing] = []
    samples: list[dict[str, Any]] = []
    session = session_of(engine.spark, pipeline)
    coverage = engine.view(pipeline.name).coverage
    for chunk in plan.chunks:
        say(f"chunk {chunk.number + 1}/{len(plan.chunks)}: verify {labels(chunk.intervals, 3)}")
        manifest = _recomputed(engine, session, pipeline, plan, chunk.number, chunk.intervals, coverage)
        for label, each in manifest.results.items():
            if each.added or each.removed:
                differing.append(Differing(label, each.added, each.removed, why))
        for label in _other_states(pipeline, manifest, coverage):
            if all(each.interval != label for each in differing):
                differing.append(
                    Differing(label, 0, 0, "its states at the end are not those that the code gives")
                )
        samples += [dict(sample) for sample in manifest.samples]
    return differing, samples


def _other_states(pipeline: Pipeline, manifest: Manifest, coverage: Coverage) -> list[str]:
    """The intervals at whose end other states are kept than were recomputed."""
    if manifest.snapshots is None:
        return []
    states = manifest.snapshots.states
    kept = chain.ends(coverage, pipeline.grain, [parse_label(pipeline.grain, label) for label in states])
    return [label for label, each in states.items() if kept[label] != each.after]


def _recomputed(
    engine: Engine,
    session: Any,
    pipeline: Pipeline,
    plan: Plan,
    number: int,
    intervals: tuple[Interval, ...],
    coverage: Coverage,
) -> Manifest:
    staged: swap.Staged | None = None
    try:
        staged = swap.stage_chunk(session, pipeline, plan.pin, intervals, engine.project.root)
        chunk = plan.chunks[number]
        # Hashes in the ledger are claims; a verification looks at the rows.
        blank = replace(coverage, intervals={})
        return swap.diff_chunk(session, pipeline, chunk, staged, blank, plan, "verify")
    except Exception as error:
        raise explained(error, pipeline) from error
    finally:
        if staged is not None:
            staged.discard()
