"""A state that goes from interval to interval: whatever streams, late rows, code changes and backfills do, clean is right.

The world here is as small as can be: a state is a number, an interval has one row at most, which tells the state that it
began with. The ledger, the plans and the convergence of backfills are the engine's own.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.errors import PlanError
from tidemill.intervals import Grain, Interval, parse_label
from tidemill.ledger import chain
from tidemill.ledger.carried import NOTHING, Carried, Seed, apart
from tidemill.ledger.chain import Chain, follow
from tidemill.ledger.coverage import Coverage, Shape, fold
from tidemill.ledger.coverage_json import as_json as coverage_as_json
from tidemill.ledger.coverage_json import from_json
from tidemill.ledger.edge import NOT_PLANTED
from tidemill.ledger.facts import Commit, Fact, Foreign, IntervalResult, LiveBatch, Swap, Undo
from tidemill.ledger.facts import from_json as fact_from_json
from tidemill.ledger.facts import to_json as fact_to_json
from tidemill.ledger.judge import NOT_CLEAN, State, judge
from tidemill.planning.forward import forward
from tidemill.planning.selection import Request, select

SHAPE = Shape(Grain.DAY, timedelta(0), timedelta(0))
DAYS = [parse_label(Grain.DAY, f"2024-03-{day:02}") for day in range(1, 13)]


def digest(state: int) -> str:
    return NOTHING if state == 0 else hashlib.md5(str(state).encode()).hexdigest()  # noqa: S324  no secret


def offset(n: int) -> dict[str, Any]:
    return {"events": {"place": 0, "offset": n}}


@dataclass
class World:
    """``kind``: what a state is: a sum, or the last that was seen."""

    kind: str
    live: bool = True
    code: int = 1
    on_time: dict[str, list[int]] = field(default_factory=dict)
    arrived: dict[str, list[int]] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    kept: dict[tuple[str, str], int] = field(default_factory=dict)
    before_runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)
    stream_state: int = 0
    next_day: int = 0
    runs: int = 0
    planted: str = ""
    read: int = 0

    def step(self, state: int, day: Interval, events: list[int]) -> tuple[int, Any]:
        """The state after an interval, and its row; an odd state gives a row without events: a timer."""
        row = (day.label, state * self.code, tuple(events)) if events or state % 2 else None
        for event in events:
            state = state + event if self.kind == "sum" else event
        return state, row

    def commit(self, fact: Fact) -> None:
        # As it comes from the log, and from the index.
        text = fact_to_json(fact)
        again = fact if isinstance(fact, Foreign) else fact_from_json(text)
        assert again is not None
        self.coverage = fold(self.coverage, Commit(self.coverage.version + 1, 0, again), SHAPE)
        self.coverage = from_json(coverage_as_json(self.coverage))

    def chain(self) -> Chain:
        return follow(judge(self.coverage, SHAPE, str(self.code)), self.coverage, SHAPE)

    # What happens.

    def stream(self, late: list[tuple[int, int]], missed: dict[int, int] | None = None) -> None:
        """The watermark passes a day; events of days before come too late, and are left out.

        ``missed``: an event a day that the stream has passed over since the batch before, of whatever time.
        """
        begin = self.read + len(missed or ())
        for n, event in (missed or {}).items():
            self.arrived[DAYS[n].label] = [*self.arrived.get(DAYS[n].label, []), event]
        day = DAYS[self.next_day]
        self.next_day += 1
        events = self.on_time.get(day.label, [])
        self.arrived[day.label] = [*self.arrived.get(day.label, []), *events]
        after, row = self.step(self.stream_state, day, events)
        states = {}
        if after != self.stream_state:
            name = f"batch-{self.next_day}"
            self.kept[name, day.label] = after
            states = {day.label: (apart(digest(self.stream_state), digest(after)), name)}
        self.stream_state = after
        touched = []
        for back, event in late:
            if back <= self.next_day - 1:
                label = DAYS[self.next_day - 1 - back].label
                self.arrived[label] = [*self.arrived.get(label, []), event]
                touched.append(label)
        if row is not None:
            self.table[day.label] = row
        self.commit(
            LiveBatch(
                "p", "live", str(self.code), "q", self.next_day, offset(begin), offset(begin + 1), stateful=True,
                watermark=int(day.end.timestamp() * 1000), added={day.label: 1} if row else {}, late=tuple(touched),
                touched=((int(day.start.timestamp()), int(day.end.timestamp())),),
                reached=(day.label,) if events else (), carries=True, states=states, planted=self.planted,
            )
        )  # fmt: skip
        self.planted, self.read = "", begin + 1

    def backfill(self, request: Request, size: int) -> int:
        """As the executor does; gives how many intervals were computed."""
        judged = self.chain().judged
        now = DAYS[-1].end
        found = select(judged, request, grain=Grain.DAY, live=self.live, begin=None, now=now)
        if self.coverage.carries:
            found = forward(found, judged, request, grain=Grain.DAY, live=self.live)
        asked = len(found.chosen) if found.asked is None else found.asked
        days = [each.interval for each in found.chosen]
        parts = [
            some[i : i + size] for some in (days[:asked], days[asked:]) for i in range(0, len(some), size)
        ]
        self.runs += 1
        computed = 0
        self.before_runs[f"run-{self.runs}"] = {}
        for number, part in enumerate(parts):
            right = {each.interval: each.state for each in self.chain().judged}
            if part[0] not in days[:asked] and right.get(part[0], State.CLEAN) not in NOT_CLEAN:
                break
            self.swap(number, part)
            computed += len(part)
        return computed

    def swap(self, number: int, days: list[Interval]) -> None:
        run, code = f"run-{self.runs}", str(self.code)
        at = chain.standing(self.coverage, Grain.DAY, days[0])
        joins = at.last is not None and at.last.end == days[0].start
        if at.digest is not None and (self.live or (self.coverage.carries and joins)):
            known = [self.kept[name, label] for label, name in sorted(at.made.items())]
            state, before = (known[-1] if known else 0), at.digest
            assert before == digest(state), "what is named is what was digested"
        else:
            state, before = 0, None
            for day in DAYS:
                if day < days[0]:
                    state, _ = self.step(state, day, self.arrived.get(day.label, []))
        results, states = {}, {}
        for day in days:
            after, row = self.step(state, day, self.arrived.get(day.label, []))
            name = f"{run}-{number}" if after != state or before is None else None
            if name is not None:
                self.kept[name, day.label] = after
            states[day.label] = Carried(before, digest(after), name)
            old = self.table.pop(day.label, None)
            self.before_runs[run][day.label] = old
            if row is not None:
                self.table[day.label] = row
            differs = old != row
            results[day.label] = IntervalResult(
                int(row is not None), None, int(differs and row is not None), int(differs and old is not None)
            )
            state, before = after, digest(after)
        version = self.coverage.version
        self.commit(Swap("p", run, number, code, version, {}, results, carries=True, states=states))

    def restart(self, *, missed: bool = False) -> None:
        """The stream begins anew from the table's states, where all before its edge is right.

        ``missed``: its next batch had begun with what it held before the restart's commit came, and goes on: with what the
        stream had, or another restart has made.
        """
        days = DAYS[: self.next_day]
        if self.next_day == len(DAYS) or {each.state for each in self.chain().judged} & NOT_CLEAN:
            return
        at = chain.standing(self.coverage, Grain.DAY, DAYS[self.next_day])
        if at.digest is None:
            return  # nothing is known before, and what was passed over may be of any time
        known = [self.kept[name, label] for label, name in sorted(at.made.items())]
        state = known[-1] if known else 0
        assert at.digest == digest(state), "what is named is what was digested"
        self.runs += 1
        if not missed:
            self.stream_state, self.planted = state, f"seed-{self.runs}"
            for day in DAYS[self.next_day :]:  # what waits is planted, too
                waits = self.arrived.pop(day.label, [])
                self.on_time[day.label] = [*waits, *self.on_time.get(day.label, [])]
        run, version = f"run-{self.runs}", self.coverage.version
        seed = Seed(f"seed-{self.runs}", "q", self.next_day, 0, days[-1].label, str(at.digest))
        day = DAYS[self.next_day].label
        results = {day: IntervalResult(0)}
        self.commit(Swap("p", run, 0, str(self.code), version, {}, results, carries=True, seed=seed))
        assert self.chain().astray is None

    def undo(self) -> None:
        """Of the last run, every chunk's rows; with what was found equal left as it is."""
        run = f"run-{self.runs}"
        rows = self.before_runs.pop(run, {})
        changed = {label: row for label, row in rows.items() if self.table.get(label) != row}
        for label, row in changed.items():
            self.table.pop(label, None)
            if row is not None:
                self.table[label] = row
        if changed:
            self.commit(Undo("p", run, 0, dict.fromkeys(changed, 0)))

    # What must hold.

    def wanted(self) -> dict[str, Any]:
        found, state = {}, 0
        for day in DAYS:
            state, row = self.step(state, day, self.arrived.get(day.label, []))
            if row is not None:
                found[day.label] = row
        return found

    def check(self) -> None:
        wanted = self.wanted()
        known = {each.interval.label: each.state for each in self.chain().judged}
        for day in DAYS:
            if self.live and day not in DAYS[: self.next_day]:
                break
            if not self.live and day.label not in known:
                continue
            if self.coverage.broken and day.label < min(known):
                continue  # that far back nobody looks for what was passed over
            if known.get(day.label, State.CLEAN) is State.CLEAN:
                assert self.table.get(day.label) == wanted.get(day.label), day.label


def events_of_days() -> st.SearchStrategy[dict[str, list[int]]]:
    one = st.lists(st.integers(-1, 2), max_size=2)
    return st.dictionaries(st.sampled_from([day.label for day in DAYS]), one, min_size=4)


LATE = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 2)), max_size=1)
MISSED = st.dictionaries(st.integers(0, 11), st.integers(-1, 2), min_size=1, max_size=2)
HAPPENS = st.one_of(
    st.tuples(st.just("stream"), LATE),
    st.tuples(st.just("stream"), LATE),
    st.tuples(st.just("backfill"), st.integers(1, 3)),
    st.tuples(st.just("range"), st.tuples(st.integers(0, 10), st.integers(1, 3))),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("gap"), MISSED),
    st.tuples(st.just("code"), st.none()),
    st.tuples(st.just("undo"), st.none()),
    st.tuples(st.just("foreign"), st.integers(0, 11)),
)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(["sum", "last"]), events_of_days(), st.lists(HAPPENS, max_size=14))
def test_what_is_clean_is_what_today_s_code_gives(kind: str, on_time: dict[str, list[int]], story: list[Any]):
    world = World(kind, on_time=on_time)
    for what, how in story:
        if what == "stream" and world.next_day < len(DAYS):
            world.stream(how)
        elif what == "gap" and 0 < world.next_day < len(DAYS):
            world.stream([], how)
        elif what == "backfill" and world.coverage.version >= 0:
            world.backfill(Request(states=NOT_CLEAN), how)
            assert not [each for each in world.chain().judged if each.state in NOT_CLEAN], (
                "nothing is left to repair"
            )
        elif what == "range" and world.next_day > how[0]:
            start = DAYS[how[0]]
            end = DAYS[min(how[0] + how[1], world.next_day) - 1]
            with suppress(PlanError):  # outside of what the table covers
                world.backfill(Request(start.start, end.end), 2)
        elif what == "code":
            world.code += 1
        elif what == "restart" and world.next_day:
            world.restart(missed=how)
        elif what == "undo":
            world.undo()
        elif what == "foreign" and how < world.next_day and world.coverage.version >= 0:
            label = DAYS[how].label
            world.table[label] = "defaced"
            world.commit(Foreign("DELETE", (label,)))
        world.check()


@settings(deadline=None, max_examples=200)
@given(
    events_of_days(), st.lists(st.tuples(st.integers(0, 11), st.integers(1, 4), st.booleans()), max_size=8)
)
def test_without_a_stream_too_whatever_is_asked_first(arrived: dict[str, list[int]], story: list[Any]):
    world = World("sum", live=False, arrived=arrived)
    for first, length, code in story:
        world.code += code
        days = DAYS[first : first + length]
        world.backfill(Request(days[0].start, days[-1].end), 2)
        world.check()
        known = {each.interval.label: each.state for each in world.chain().judged}
        assert all(known[day.label] is State.CLEAN for day in days)


def streamed(kind: str, late: dict[int, list[tuple[int, int]]]) -> World:
    world = World(kind, on_time={day.label: [2] for day in DAYS})
    for n in range(len(DAYS)):
        world.stream(late.get(n, []))
    return world


def states(world: World) -> dict[str, str]:
    return {each.interval.label[-2:]: each.state.value for each in world.chain().judged}


def test_late_rows_take_all_that_follows_along_until_states_agree_again():
    world = streamed("last", {6: [(4, 1)]})
    assert [day for day, state in states(world).items() if state == "dirty"] == [
        f"{n:02}" for n in range(3, 13)
    ]
    third = next(each for each in world.chain().judged if each.interval.label == "2024-03-05")
    assert third.why == "its state comes from 2024-03-03, which is dirty: late rows"
    assert world.chain().astray is not None
    # The state after the third is another; after the fourth it is what it was.
    assert world.backfill(Request(states=NOT_CLEAN), 1) == 2
    assert set(states(world).values()) == {"clean"}
    assert world.chain().astray is None


def test_a_sum_never_agrees_again_and_what_the_stream_adds_is_not_clean():
    world = World("sum", on_time={day.label: [2] for day in DAYS})
    for n in range(11):
        world.stream([(4, 1)] if n == 6 else [])
    assert world.backfill(Request(states=NOT_CLEAN), 2) == 9
    assert set(states(world).values()) == {"clean"}
    assert world.chain().astray == "its state is not the one that 2024-03-11 ended with"
    world.stream([])
    assert states(world)["12"] == "dirty"
    # The last day alone is made anew, from the corrected state.
    assert world.backfill(Request(states=NOT_CLEAN), 2) == 1
    assert set(states(world).values()) == {"clean"}
    world.check()


@pytest.mark.parametrize("another_code", [False, True])
def test_a_stream_that_begins_anew_from_the_table_s_states_adds_what_is_clean(*, another_code: bool):
    # Of the last day before its edge the ledger knows nothing.
    world = World("sum", on_time={day.label: [2] for day in DAYS if day is not DAYS[8]})
    for n in range(9):
        world.stream([(4, 1)] if n == 6 else [])
    world.code += another_code
    world.restart()
    assert world.coverage.seed is None, "days before are not right yet"
    world.backfill(Request(states=NOT_CLEAN), 2)
    assert world.chain().astray is not None
    world.restart()
    for _ in range(3):
        world.stream([])
    assert set(states(world).values()) == {"clean"}
    assert world.chain().astray is None
    world.check()
    # What is named is what was digested, here too.
    world.backfill(Request(DAYS[10].start, DAYS[11].end), 2)
    assert set(states(world).values()) == {"clean"}


def test_a_stream_that_missed_its_restart_is_astray_until_the_next():
    world = World("sum", on_time={day.label: [2] for day in DAYS})
    for n in range(8):
        world.stream([(4, 1)] if n == 6 else [])
    world.backfill(Request(states=NOT_CLEAN), 2)
    world.restart(missed=True)
    world.stream([])
    assert states(world)["09"] == "dirty"
    assert NOT_PLANTED in world.coverage.intervals[DAYS[8].label].marks[0].why
    world.check()
    world.backfill(Request(states=NOT_CLEAN), 2)
    assert world.chain().astray == "its state is not the one that 2024-03-09 ended with"
    world.restart()
    world.stream([])
    assert set(states(world).values()) == {"clean"}
    assert world.chain().astray is None
    world.check()


@pytest.mark.parametrize("missed", [False, True])
def test_of_restarts_in_a_row_the_stream_may_have_begun_with_any(*, missed: bool):
    world = World("sum", on_time={day.label: [2] for day in DAYS})
    for _ in range(8):
        world.stream([])

    def becomes(events: list[int]) -> None:
        world.arrived[DAYS[2].label] = events
        world.commit(Foreign("DELETE", (DAYS[2].label,)))
        world.backfill(Request(states=NOT_CLEAN), 2)

    # What the stream had is right in the end, and what the first restart is made of is not.
    becomes([2, 5])
    world.restart()
    becomes([2])
    world.restart(missed=missed)
    assert [each.planted for each in world.coverage.stood] == ["", "seed-2"]
    world.stream([])
    world.stream([])
    world.check()
    world.backfill(Request(DAYS[8].start, DAYS[8].end), 2)
    world.check()
    assert (world.chain().astray is not None) is missed
    world.restart()
    world.stream([])
    assert set(states(world).values()) == {"clean"}
    world.check()


def test_with_a_batch_between_restarts_only_the_last_may_have_been_missed():
    world = World("sum", on_time={day.label: [2] for day in DAYS})
    for n in range(6):
        world.stream([(4, 1)] if n == 4 else [])
    world.backfill(Request(states=NOT_CLEAN), 2)
    world.restart()
    world.stream([(3, 7)])
    assert world.coverage.stood == ()
    world.backfill(Request(states=NOT_CLEAN), 2)
    world.restart(missed=True)
    assert [each.planted for each in world.coverage.stood] == [""]
    world.stream([])
    world.backfill(Request(states=NOT_CLEAN), 2)
    assert world.chain().astray is not None
    world.restart()
    world.stream([])
    assert set(states(world).values()) == {"clean"}
    world.check()


def test_after_a_stream_has_passed_over_input_nothing_is_clean_that_no_backfill_has_computed_until_it_begins_anew():
    world = World("last", on_time={day.label: [2] for day in DAYS[:3]})
    for _ in range(4):
        world.stream([])
    # What was passed over is of a day to come, of which nobody has heard: no digest tells.
    world.stream([], {6: 1})
    assert set(states(world).values()) == {"dirty"}
    why = "its state comes from a stream that passed over input: batch 5 does not begin where the one before it ended"
    world.backfill(Request(states=NOT_CLEAN), 2)
    assert set(states(world).values()) == {"clean"}
    assert world.chain().astray == why
    for _ in range(4):
        world.stream([])
    # Days without rows, too; each is at fault, whatever the one before it ended with.
    assert [day for day, state in states(world).items() if state == "dirty"] == ["06", "07", "08", "09"]
    assert {each.why for each in world.chain().judged if each.state in NOT_CLEAN} == {why}
    world.check()
    assert world.backfill(Request(states=NOT_CLEAN), 2) == 4
    world.restart()
    assert world.coverage.astray is None
    for _ in range(3):
        world.stream([])
    assert set(states(world).values()) == {"clean"}
    world.check()


def test_all_of_a_broken_chain_is_made_anew_where_all_is_asked_for():
    # What follows the late rows would be right, had the third been: and is made anew all the same, in one commit.
    world = streamed("last", {6: [(4, 1)]})
    everything = Request(states=frozenset(State))
    found = forward(
        select(world.chain().judged, everything, grain=Grain.DAY, live=True, begin=None, now=DAYS[-1].end),
        world.chain().judged, everything, grain=Grain.DAY, live=True,
    )  # fmt: skip
    assert (len(found.chosen), found.asked) == (12, 12)
    assert world.backfill(everything, 12) == 12
    assert set(states(world).values()) == {"clean"}


def test_a_clean_range_that_is_asked_for_changes_nothing_and_ends():
    world = streamed("sum", {})
    assert world.backfill(Request(DAYS[3].start, DAYS[4].end), 31) == 2
    assert set(states(world).values()) == {"clean"}


def test_a_range_after_what_does_not_hold_begins_there():
    world = streamed("sum", {6: [(4, 1)]})
    assert world.backfill(Request(DAYS[8].start, DAYS[8].end), 31) == 10
    assert set(states(world).values()) == {"clean"}


def test_newest_first_and_open_intervals_are_refused():
    world = streamed("sum", {6: [(4, 1)]})
    with pytest.raises(PlanError, match="cannot be computed first"):
        world.backfill(Request(states=NOT_CLEAN, newest_first=True), 31)


def test_a_run_of_other_states_stands_in_the_way_of_one_staged_before():
    world = streamed("sum", {})
    version = world.coverage.version
    world.backfill(Request(DAYS[0].start, DAYS[0].end), 31)
    before = world.coverage
    swap = Swap("p", "old", 0, "1", version, {}, {DAYS[3].label: IntervalResult(1, None, 0, 0)})

    after = fold(before, Commit(before.version + 1, 0, swap), SHAPE)

    # A run of before states were kept, published by hand, does not end the chain.
    assert before.carries
    assert after.carries
