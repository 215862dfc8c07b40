"""A plan in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tidemill.display.coverage import strip
from tidemill.display.html import Html, chip, facts, joined, long_table, muted, page, tag
from tidemill.display.words import count
from tidemill.intervals import Interval, labels
from tidemill.ledger.judge import State

if TYPE_CHECKING:
    from tidemill.planning.plan import Chunk, Plan
    from tidemill.planning.selection import LeftOut


def plan_html(plan: Plan, inputs: Sequence[tuple[str, str]], steps: Sequence[str]) -> str:
    """A plan. ``inputs``: how much is read of each; ``steps``: what is done with each chunk once it is staged."""
    if not plan.chunks:
        return page(joined([tag("b", plan.pipeline), "nothing to do"], by="  "), _left_out(plan.left_out))
    table = f"pinned at version {plan.pin.version}" if plan.pin.version >= 0 else "made by the first chunk"
    size = f"recompute {count(len(plan.intervals), 'interval')} in {count(len(plan.chunks), 'chunk')}"
    each = [("each chunk", joined(tag("div", step) for step in ("stage", *steps)))]
    below = [("dirty after a change", ", ".join(plan.downstream))] if plan.downstream else []
    return page(
        joined([tag("b", plan.pipeline), size, muted(f"with code {plan.fingerprint[:8]}")], by="  "),
        facts([("table", table), *inputs, *each, *below]),
        strip(
            plan.grain, {i.label: (_state(plan, i), f"{i.label}  {_why(plan, i)}") for i in plan.intervals}
        ),
        _chunks(plan),
        _left_out(plan.left_out),
    )


def _why(plan: Plan, interval: Interval) -> str:
    return plan.why.get(interval.label, "")


def _state(plan: Plan, interval: Interval) -> State:
    word = _why(plan, interval).partition(":")[0]
    return State(word) if word in set(State) else State.CLEAN


def _chunks(plan: Plan) -> Html:
    rows = [row for chunk in plan.chunks for row in _chunk(plan, chunk)]
    return long_table(("chunk", "state", "intervals", "why"), rows, prose=("intervals", "why"))


def _chunk(plan: Plan, chunk: Chunk) -> Iterator[tuple[object, ...]]:
    whys: dict[str, list[Interval]] = {}
    for interval in chunk.intervals:
        whys.setdefault(_why(plan, interval), []).append(interval)
    for why, part in whys.items():
        state, _, reason = why.partition(": ")
        yield chunk.number + 1, chip(state), labels(part, 8), reason


def _left_out(found: Sequence[LeftOut]) -> Html:
    return long_table(("left out", "why"), [(each.interval.label, each.why) for each in found])
