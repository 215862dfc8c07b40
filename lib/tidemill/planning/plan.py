"""A plan: what would run, as plain values. One interpreter executes it, another prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tidemill.display.plan import plan_html
from tidemill.display.words import count, size
from tidemill.errors import PlanError
from tidemill.intervals import Grain, Interval, labels, parse_label
from tidemill.ledger.facts import Offsets
from tidemill.ledger.judge import Judged
from tidemill.model import Gate, Pipeline
from tidemill.planning.gates import limits
from tidemill.planning.places import Placed, as_json, lines, places
from tidemill.planning.selection import LeftOut, Selection


@dataclass(frozen=True, slots=True)
class InputPin:
    """Up to where one input is read, and how much that is.

    ``read`` is what the reader needs: paths of files, or a table version. ``what`` says it to a person.
    """

    what: str
    read: Any
    size: int = 0


@dataclass(frozen=True, slots=True)
class Pin:
    """The table version whose files are replaced, and how far the inputs had been read by then.

    ``version`` is -1 where there is no table yet. ``live``: the ends are those of a live stream's batch, and that is
    ``batch``. ``reached``, of a restart: up to when (epoch milliseconds) rows are stepped, as the stream has; the others wait.
    """

    version: int
    live: bool
    source_end: Offsets
    inputs: Mapping[str, InputPin]
    batch: int | None = None
    reached: int | None = None


@dataclass(frozen=True, slots=True)
class Converge:
    """End the run before this chunk when the state at its beginning is what its rows were made from."""


@dataclass(frozen=True, slots=True)
class Carry:
    """Begin with the states at a moment, and keep those at each interval's end."""

    begin: datetime


@dataclass(frozen=True, slots=True)
class Stage:
    """Compute these intervals over the pinned input and write their files, unpublished."""

    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """Compare the staged rows with the table's, interval by interval."""

    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckGate:
    """Refuse when an interval changes more than this."""

    gate: Gate


@dataclass(frozen=True, slots=True)
class Sow:
    """Write what the stream begins anew with: its states at a moment, and the rows after it.

    ``begin``: where the states are kept that these are made from; None where rows of the horizon make them.
    """

    reached: datetime
    begin: datetime | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """Publish the staged files in place of the pinned ones, in one commit."""

    provisional: bool
    writer: str


Step = Converge | Carry | Stage | Diff | CheckGate | Sow | Swap


@dataclass(frozen=True, slots=True)
class Chunk:
    """Intervals that are staged in one job and swapped in one commit, and the steps that do it."""

    number: int
    steps: tuple[Step, ...]
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A backfill, before it runs. ``why`` gives each interval's reason, by label; ``expectations`` are the suites'.

    ``asked``: how many intervals are computed in any case, where those after them are only as far as states differ; None
    for a pipeline that carries no state without bound.
    """

    pipeline: str
    fingerprint: str
    grain: Grain
    pin: Pin
    chunks: tuple[Chunk, ...]
    why: Mapping[str, str]
    left_out: tuple[LeftOut, ...]
    downstream: tuple[str, ...] = ()
    provisional: bool = False
    expectations: tuple[Placed, ...] = ()
    asked: int | None = None

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """Every interval the plan recomputes, in the order in which it does."""
        return tuple(interval for chunk in self.chunks for interval in chunk.intervals)

    def _repr_html_(self) -> str:
        steps = self.chunks[0].steps if self.chunks else ()
        after = [
            line for step in steps if not isinstance(step, Stage | Carry) for line in _explain(step, self)
        ]
        return plan_html(self, _inputs(self), after)


def plan_backfill(
    pipeline: Pipeline,
    selection: Selection,
    *,
    fingerprint: str,
    pin: Pin,
    writer: str,
    downstream: Sequence[str] = (),
    provisional: bool = False,
) -> Plan:
    """Cut the chosen intervals into chunks of the pipeline's ``chunk`` size, each with its steps."""
    chosen = [judged.interval for judged in selection.chosen]
    after = (Diff(pipeline.table.key), CheckGate(pipeline.gate), Swap(provisional, writer))
    chunks = _cut(chosen, pipeline.chunk, after, selection.asked)
    return Plan(
        pipeline=pipeline.name,
        fingerprint=fingerprint,
        grain=pipeline.grain,
        pin=pin,
        chunks=chunks,
        why={judged.interval.label: _reason(judged) for judged in selection.chosen},
        left_out=selection.left_out,
        downstream=tuple(downstream),
        provisional=provisional,
        expectations=places(pipeline.quality),
        asked=selection.asked,
    )


def in_chunks_of(plan: Plan, size: int) -> Plan:
    """The same plan, with so many intervals in a chunk."""
    if not plan.chunks:
        return plan
    return replace(plan, chunks=_cut(plan.intervals, size, plan.chunks[0].steps[-3:], plan.asked))


def _cut(
    intervals: Sequence[Interval], size: int, after: tuple[Step, ...], asked: int | None
) -> tuple[Chunk, ...]:
    first = intervals if asked is None else intervals[:asked]
    parts = [tuple(first[i : i + size]) for i in range(0, len(first), size)]
    # As far as states differ: that may be one interval, or all; each chunk is twice the one before.
    rest, many = list(intervals[len(first) :]), 1
    while rest:
        parts.append(tuple(rest[:many]))
        rest, many = rest[many:], min(size, 2 * many)
    return tuple(
        Chunk(number, _steps(part, after, None if asked is None else intervals[:asked]), part)
        for number, part in enumerate(parts)
    )


def _steps(
    part: tuple[Interval, ...], after: tuple[Step, ...], asked: Sequence[Interval] | None
) -> tuple[Step, ...]:
    if asked is None:
        return (Stage(part), *after)
    if_needed = () if part[0] in asked else (Converge(),)
    return (*if_needed, Carry(part[0].start), Stage(part), *after)


def _reason(judged: Judged) -> str:
    return f"{judged.state.value}: {judged.why}" if judged.why else judged.state.value


def explain(plan: Plan) -> list[str]:
    """The plan as lines for a person; the second interpreter of the same steps."""
    if not plan.chunks:
        said = [f"{plan.pipeline}: nothing to do"]
    else:
        said = [
            f"{plan.pipeline}: recompute {_how_many(plan)} with code {plan.fingerprint[:8]}",
            f"  table pinned at version {plan.pin.version}" if plan.pin.version >= 0 else "  a new table",
        ]
        said += [f"  {name}: {what}" for name, what in _inputs(plan)]
    said += [f"  expected {line}" for line in lines(plan.expectations)]
    for chunk in plan.chunks:
        said.append(f"  chunk {chunk.number + 1}")
        said += [f"    {line}" for step in chunk.steps for line in _explain(step, plan)]
    said += [f"  left out: {each.interval} ({each.why})" for each in plan.left_out]
    said += [f"  downstream, dirty after a change: {name}" for name in plan.downstream]
    return said


def _how_many(plan: Plan) -> str:
    if plan.asked is None or plan.asked == len(plan.intervals):
        return count(len(plan.intervals), "interval")
    further = len(plan.intervals) - plan.asked
    return f"{count(plan.asked, 'interval')}, and as far as states differ up to {further:,} further,"


def _inputs(plan: Plan) -> list[tuple[str, str]]:
    # How much a broker or a table holds up to a pin is not known.
    return [
        (name, f"{each.what}, {size(each.size)}" if each.size else each.what)
        for name, each in plan.pin.inputs.items()
    ]


def _explain(step: Step, plan: Plan) -> list[str]:
    match step:
        case Converge():
            return ["end here, if the state is what the rows from here on were made from"]
        case Carry(begin):
            return [f"begin with the states at {begin:%Y-%m-%dT%H:%M}; keep those at each interval's end"]
        case Stage(intervals):
            whys: dict[str, list[Interval]] = {}
            for interval in intervals:
                whys.setdefault(plan.why.get(interval.label, ""), []).append(interval)
            return [f"stage {labels(part, 8)}  ({why})" for why, part in whys.items()]
        case Diff(key):
            return [f"diff by {', '.join(key)}" if key else "diff as multisets"]
        case CheckGate(gate):
            return [f"gate: {line}" for line in limits(gate)] or ["gate: no limits"]
        case Sow(reached, begin):
            start = [] if begin is None else [f"from the states at {begin:%Y-%m-%dT%H:%M} on:"]
            return [
                *start,
                f"keep the states at {reached:%Y-%m-%dT%H:%M:%S}, and the rows after it: the stream goes on with them",
            ]
        case Swap(provisional, writer):
            lasting = ", until the live stream resumes" if provisional else ""
            return [f"swap in one commit, by {writer}{lasting}"]


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain values, for ``--json`` and plan files."""
    return {
        "format": 1,
        "pipeline": plan.pipeline,
        "fingerprint": plan.fingerprint,
        "grain": plan.grain.value,
        "provisional": plan.provisional,
        "pin": {
            "version": plan.pin.version,
            "live": plan.pin.live,
            "batch": plan.pin.batch,
            "reached": plan.pin.reached,
            "source_end": dict(plan.pin.source_end),
            "inputs": {
                name: {"what": each.what, "read": each.read, "size": each.size}
                for name, each in plan.pin.inputs.items()
            },
        },
        "chunks": [[interval.label for interval in chunk.intervals] for chunk in plan.chunks],
        "why": dict(plan.why),
        "left_out": [{"interval": each.interval.label, "why": each.why} for each in plan.left_out],
        "downstream": list(plan.downstream),
        "asked": plan.asked,
        "expectations": as_json(plan.expectations),
        "writer": next((s.writer for c in plan.chunks for s in c.steps if isinstance(s, Swap)), None),
    }


def from_json(body: Mapping[str, Any], pipeline: Pipeline, *, writer: str) -> Plan:
    """A plan from :func:`to_json`'s values; steps and expectations are made anew from the pipeline."""
    grain = Grain(body["grain"])
    after = (Diff(pipeline.table.key), CheckGate(pipeline.gate), Swap(body["provisional"], writer))
    parts = [tuple(parse_label(grain, label) for label in part) for part in body["chunks"]]
    asked = body.get("asked")
    sure = None if asked is None else [each for part in parts for each in part][:asked]
    chunks = [Chunk(number, _steps(part, after, sure), part) for number, part in enumerate(parts)]
    pin = body["pin"]
    if pin.get("reached") is not None:
        raise PlanError(
            f"{pipeline.name}: a restart is planned when it is done, where the stream stands then",
            next_step=f"tidemill restart {pipeline.name}",
        )
    return Plan(
        pipeline=body["pipeline"],
        fingerprint=body["fingerprint"],
        grain=grain,
        pin=Pin(
            version=pin["version"],
            live=pin["live"],
            source_end=pin["source_end"],
            inputs={name: InputPin(**each) for name, each in pin["inputs"].items()},
            batch=pin.get("batch"),
        ),
        chunks=tuple(chunks),
        why=body["why"],
        left_out=tuple(LeftOut(parse_label(grain, e["interval"]), e["why"]) for e in body["left_out"]),
        downstream=tuple(body["downstream"]),
        provisional=body["provisional"],
        expectations=places(pipeline.quality),
        asked=asked,
    )


def repinned(plan: Plan, chunks: Sequence[Chunk], pin: Pin) -> Plan:
    """The same plan for some of its chunks, at another pin."""
    return replace(plan, chunks=tuple(chunks), pin=pin)
