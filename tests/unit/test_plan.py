"""A plan is data: cut into chunks, saved and read back, printed for a person."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.errors import PlanError
from tidemill.intervals import Grain, parse_label
from tidemill.ledger.coverage import IntervalCoverage, Mark
from tidemill.ledger.judge import Judged, State
from tidemill.model import Pipeline
from tidemill.planning.plan import (
    Carry,
    CheckGate,
    Converge,
    Diff,
    InputPin,
    Pin,
    Plan,
    Stage,
    Swap,
    explain,
    from_json,
    plan_backfill,
    repinned,
    to_json,
)
from tidemill.planning.restart import plan_restart, why_anew
from tidemill.planning.selection import LeftOut, Selection

WRITER = "one log commit"


def pipeline(**changes: Any) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "clicks",
            "source": {"delta": {"path": "in"}},
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": "out", "key": ["id", "at"]}},
            **changes,
        }
    )


def judged(*labels: str, state: State = State.DIRTY, why: str = "late rows") -> list[Judged]:
    return [Judged(parse_label(Grain.DAY, label), state, why, IntervalCoverage()) for label in labels]


def days(count: int) -> list[str]:
    first = parse_label(Grain.DAY, "2013-01-01").start
    return [(first + timedelta(days=n)).date().isoformat() for n in range(count)]


PIN = Pin(
    7,
    True,
    {"events": {"place": 0, "version": 5}},
    {"events": InputPin("in at version 5", 5, 3 * 1024 * 1024)},
)


def planned(labels: list[str], *, chunk: int = 31, left_out: tuple[LeftOut, ...] = (), **more: Any) -> Plan:
    return plan_backfill(
        pipeline(chunk=chunk),
        Selection(tuple(judged(*labels)), left_out),
        fingerprint="0123456789abcdef",
        pin=more.pop("pin", PIN),
        writer=WRITER,
        **more,
    )


def test_a_chunk_is_staged_compared_judged_and_swapped():
    (chunk,) = planned(["2013-01-01"]).chunks

    assert [type(step) for step in chunk.steps] == [Stage, Diff, CheckGate, Swap]
    assert chunk.steps[0] == Stage(chunk.intervals)
    assert chunk.steps[1] == Diff(("id", "at"))
    assert chunk.steps[3] == Swap(provisional=False, writer=WRITER)


@given(st.integers(0, 40), st.integers(1, 12))
def test_chunks_hold_every_interval_once_and_in_order(count: int, size: int):
    plan = planned(days(count), chunk=size)

    assert [i.label for i in plan.intervals] == days(count)
    assert [chunk.number for chunk in plan.chunks] == list(range(-(-count // size)))
    assert all(len(chunk.intervals) == size for chunk in plan.chunks[:-1])
    assert all(1 <= len(chunk.intervals) <= size for chunk in plan.chunks)


def test_the_newest_come_first_when_they_were_chosen_so():
    plan = planned(list(reversed(days(5))), chunk=2)

    assert [[i.label[-2:] for i in chunk.intervals] for chunk in plan.chunks] == [
        ["05", "04"],
        ["03", "02"],
        ["01"],
    ]


def test_each_interval_has_its_reason():
    selection = Selection((*judged("2013-01-01"), *judged("2013-01-02", state=State.MISSING, why="")), ())

    plan = plan_backfill(pipeline(), selection, fingerprint="f", pin=PIN, writer=WRITER)

    assert plan.why == {"2013-01-01": "dirty: late rows", "2013-01-02": "missing"}


plans = st.builds(
    planned,
    st.integers(0, 9).map(days),
    chunk=st.just(4),
    left_out=st.lists(
        st.builds(
            LeftOut, st.sampled_from([parse_label(Grain.DAY, d) for d in days(3)]), st.text(max_size=9)
        ),
        max_size=2,
    ).map(tuple),
    downstream=st.lists(st.sampled_from(["a", "b"]), max_size=2),
    provisional=st.booleans(),
    pin=st.builds(
        Pin,
        st.integers(-1, 99),
        st.booleans(),
        st.just({"events": {"place": 0, "offset": None}}),
        st.dictionaries(
            st.sampled_from(["events", "weather"]),
            st.builds(
                InputPin,
                st.text(max_size=9),
                st.integers(0, 9) | st.lists(st.text(max_size=9), max_size=2),
                st.integers(0, 2**50),
            ),
        ),
    ),
)


@settings(max_examples=50, deadline=None)
@given(plans)
def test_a_plan_reads_back_from_its_file(plan: Plan):
    assert from_json(json.loads(json.dumps(to_json(plan))), pipeline(chunk=4), writer=WRITER) == plan


def test_chunks_that_remain_are_planned_at_another_pin():
    plan = planned(days(5), chunk=2)
    later = Pin(9, True, {}, {})

    again = repinned(plan, plan.chunks[1:], later)

    assert [chunk.number for chunk in again.chunks] == [1, 2]
    assert (again.pin, again.why) == (later, plan.why)


def test_a_plan_is_explained_line_by_line():
    selection = Selection(
        (
            *judged("2013-01-01", "2013-01-02"),
            *judged("2013-01-03", state=State.STALE, why="written by 89abcdef"),
        ),
        (LeftOut(parse_label(Grain.DAY, "2013-01-04"), "open: the stream may still add rows"),),
    )

    plan = plan_backfill(
        pipeline(chunk=2),
        selection,
        fingerprint="0123456789abcdef",
        pin=PIN,
        writer=WRITER,
        downstream=("daily",),
    )

    assert explain(plan) == [
        "clicks: recompute 3 intervals with code 01234567",
        "  table pinned at version 7",
        "  events: in at version 5, 3.0 MB",
        "  chunk 1",
        "    stage 2013-01-01, 2013-01-02  (dirty: late rows)",
        "    diff by id, at",
        "    gate: at most 20% may vanish (intervals of 100 rows and more)",
        "    swap in one commit, by one log commit",
        "  chunk 2",
        "    stage 2013-01-03  (stale: written by 89abcdef)",
        "    diff by id, at",
        "    gate: at most 20% may vanish (intervals of 100 rows and more)",
        "    swap in one commit, by one log commit",
        "  left out: 2013-01-04 (open: the stream may still add rows)",
        "  downstream, dirty after a change: daily",
    ]


def test_other_plans_are_explained_in_other_words():
    changed = pipeline(
        gate={"max_removed": None, "max_added": "150%", "min_rows": 5}, sink={"delta": {"path": "out"}}
    )
    fresh = Pin(-1, False, {}, {"events": InputPin("2 files of in", [], 900)})
    selection = Selection(tuple(judged(*days(10))), ())

    lines = explain(
        plan_backfill(changed, selection, fingerprint="f" * 16, pin=fresh, writer=WRITER, provisional=True)
    )

    assert lines[1:] == [
        "  a new table",
        "  events: 2 files of in, 900 B",
        "  chunk 1",
        f"    stage {', '.join(days(8))} and 2 more  (dirty: late rows)",
        "    diff as multisets",
        "    gate: at most 150% may appear (intervals of 5 rows and more)",
        "    swap in one commit, by one log commit, until the live stream resumes",
    ]


def test_a_plan_without_work_says_so():
    assert explain(planned([])) == ["clicks: nothing to do"]


def test_a_plan_says_where_each_expectation_runs():
    def suite(*types: str, action: str = "warn") -> dict[str, Any]:
        each = [{"id": type_.removeprefix("expect_"), "type": type_, "action": action} for type_ in types]
        return {"name": "s", "expectations": each}

    quality = {
        "inputs": {"events": suite("expect_column_values_to_not_be_null", action="quarantine")},
        "suite": suite(
            "expect_column_values_to_be_unique",
            "expect_column_to_exist",
            "expect_column_values_to_be_null",
            "expect_table_row_count_to_equal",
            action="fail",
        ),
    }
    judging = pipeline(quality=quality)
    plan = plan_backfill(judging, Selection((), ()), fingerprint="f" * 16, pin=PIN, writer=WRITER)

    by_row = "column_values_to_not_be_null (quarantine, of events), column_values_to_be_null (fail)"
    assert explain(plan) == [
        "clicks: nothing to do",
        f"  expected in the write, of each row: {by_row}",
        "  expected in the write, of all rows together: table_row_count_to_equal (fail)",
        "  expected by the schema, before anything is read: column_to_exist (fail)",
        "  expected in GX, at the gate of a backfill: column_values_to_be_unique (fail)",
    ]
    said = json.loads(json.dumps(to_json(plan)))
    assert [each["runs"] for each in said["expectations"]] == ["row", "gx", "schema", "row", "batch"]
    assert from_json(said, judging, writer=WRITER) == plan


def test_what_may_not_be_needed_is_asked_before_it_is_computed():
    selection = Selection(tuple(judged(*days(7))), (), asked=3)
    plan = plan_backfill(pipeline(chunk=2), selection, fingerprint="f" * 16, pin=PIN, writer=WRITER)

    assert [[i.label[-2:] for i in chunk.intervals] for chunk in plan.chunks] == [
        ["01", "02"],
        ["03"],
        ["04"],
        ["05", "06"],
        ["07"],
    ]
    assert [type(chunk.steps[0]) for chunk in plan.chunks] == [Carry, Carry, *[Converge] * 3]
    assert from_json(json.loads(json.dumps(to_json(plan))), pipeline(chunk=2), writer=WRITER) == plan
    said = explain(plan)
    assert "recompute 3 intervals, and as far as states differ up to 4 further, with code" in said[0]
    assert "    begin with the states at 2013-01-03T00:00; keep those at each interval's end" in said
    assert said.count("    end here, if the state is what the rows from here on were made from") == 3


def test_a_restart_computes_what_the_stream_had_begun_and_is_not_kept_in_a_file():
    here = judged("2013-01-04", "2013-01-05", state=State.OPEN, why="the stream may still add rows")
    # Of the fifth there are rows that wait.
    edge = 1357_322_400_000  # 18:00 of the fourth

    def planned(*before: Judged, carries: bool = True) -> Plan:
        return plan_restart(
            pipeline(), [*before, *here], why="astray", carries=carries, watermark=edge, pin=PIN, fingerprint="f" * 16,
            writer=WRITER,
        )  # fmt: skip

    plan = planned(*judged("2013-01-03", state=State.CLEAN))
    said = explain(plan)
    gate = [line for line in said if "gate:" in line]
    assert said[-5 - len(gate) :] == [
        "    stage 2013-01-04, 2013-01-05  (open; astray)",
        "    diff by id, at",
        *gate,
        "    from the states at 2013-01-04T00:00 on:",
        "    keep the states at 2013-01-04T18:00:00, and the rows after it: the stream goes on with them",
        "    swap in one commit, by one log commit",
    ]
    # Without a chain it does not matter what those before are.
    assert planned(*judged("2013-01-03"), carries=False).intervals == plan.intervals
    with pytest.raises(PlanError, match="states that are not right: 2013-01-03") as refused:
        planned(*judged("2013-01-03"))
    assert "tidemill backfill clicks --dirty" in refused.value.next_step
    with pytest.raises(PlanError, match="a restart is planned when it is done"):
        from_json(json.loads(json.dumps(to_json(plan))), pipeline(), writer=WRITER)
    assert why_anew(here, None, "f" * 16, held="f" * 16) is None
    assert why_anew(here, None, "f" * 16, held=None) is None
    assert why_anew((), None, "f" * 16, held="e" * 16) == "other code has made what the stream holds"
    late = Judged(here[0].interval, State.OPEN, "", IntervalCoverage(marks=(Mark("late rows", 3),)))
    assert (
        why_anew([late], None, "f" * 16, held="f" * 16)
        == "2013-01-04 is open, and not what it should be: late rows"
    )
    other = Judged(here[0].interval, State.OPEN, "", IntervalCoverage(writers={"e" * 16: 3}))
    assert (
        why_anew([other], None, "f" * 16, held="f" * 16) == "2013-01-04 is open, and other code has begun it"
    )
