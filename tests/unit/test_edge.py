"""What lies at a stream's edge: whose doing it is where code looks further than before, a restart is missed, or input is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_coverage import (
    D1,
    D2,
    D3,
    D4,
    NOW,
    batch,
    folded,
    ms,
    result,
    states,
    swap,
    touched,
    why,
)
from tests.unit.test_plan import PIN, WRITER, pipeline
from tidemill.intervals import Grain, interval_at, intervals_reading
from tidemill.ledger.carried import Seed
from tidemill.ledger.coverage import Coverage, Shape, fold_all
from tidemill.ledger.edge import NOT_PLANTED, ahead, reach
from tidemill.ledger.facts import Commit, Fact, LiveBatch
from tidemill.ledger.judge import State, judge
from tidemill.planning.restart import plan_restart, why_anew

HOUR = timedelta(hours=1)
D5, D6 = "2013-01-05", "2013-01-06"
WIDER = Shape(Grain.DAY, timedelta(days=2), timedelta(0))


# ---- code that looks further back than the code before


def old(**more: Any) -> LiveBatch:
    return batch({}, stateful=True, code="old", **{"touched": touched(D1, D1), "reached": (D1,), **more})


def test_what_code_that_looks_further_back_needs_of_the_former_state_is_not_clean():
    facts = (
        old(watermark=ms(D1, 22)),
        batch({}, stateful=True, number=1, watermark=ms(D1, 22), reach=reach(WIDER)),
        batch(
            {D6: 1}, stateful=True, number=2, watermark=ms(D5), touched=touched(D6, D6), reach=reach(WIDER)
        ),
    )
    # The former code had dropped what days 2 and 3 need of day 1, and knew of neither.
    assert states(folded(*facts[:2], shape=WIDER), shape=WIDER) == dict.fromkeys((D1, D2, D3), State.OPEN)
    assert states(folded(*facts, shape=WIDER), shape=WIDER) == {
        **dict.fromkeys((D1, D2, D3), State.STALE),
        D6: State.OPEN,
    }
    # That they are empty has to be found out, and is enough.
    repaired = folded(*facts, swap({day: result(0) for day in (D1, D2, D3)}, 2), shape=WIDER)
    assert states(repaired, shape=WIDER)[D2] is State.CLEAN


def test_sealed_days_that_only_newer_code_would_look_back_from_are_not_clean_before_it_has_run():
    facts = (
        old(watermark=ms(D4), reach=(0, 0)),
        batch({D4: 1}, stateful=True, code="old", number=1, watermark=ms(D6), touched=touched(D4, D4), reach=(0, 0)),
    )  # fmt: skip
    assert states(folded(*facts), "old") == {D1: State.CLEAN, D4: State.CLEAN}
    assert states(folded(*facts, shape=WIDER), shape=WIDER) == {
        **dict.fromkeys((D1, D2, D3, D4, D5), State.STALE),
        D6: State.OPEN,
    }
    # Code of the same reach says itself what it has reached.
    assert set(folded(*facts, shape=replace(WIDER, lookback=timedelta(0))).intervals) == {D1, D4}
    # Of batches that do not say how far they looked, nor what rules left out, all is taken for input that they have reached.
    former = [replace(each, reach=None, touched=()) for each in facts]
    assert states(folded(*former, shape=WIDER), shape=WIDER) == states(
        folded(*facts, shape=WIDER), shape=WIDER
    )
    assert set(folded(*former).intervals) == {D1, D4}


def test_rows_far_ahead_of_the_watermark_reach_what_looks_back_to_them_and_nothing_else():
    far = int(datetime(2100, 5, 1, 7, tzinfo=UTC).timestamp())
    coverage = folded(
        old(watermark=ms(D1, 22), touched=(*touched(D1, D1), (far, far + 600)), reached=(D1, "2100-05-01")),
        batch({}, stateful=True, number=1, watermark=ms(D1, 22)),
        shape=WIDER,
    )
    assert set(coverage.intervals) == {D1, D2, D3, "2100-05-01", "2100-05-02", "2100-05-03"}
    assert all(each.writers.keys() == {"old", NOW} for each in coverage.intervals.values())


def test_what_rules_left_out_is_in_no_state_but_belongs_to_what_code_that_looks_further_reaches():
    far = int(datetime(2100, 5, 1, 7, tzinfo=UTC).timestamp())
    without = old(
        watermark=ms(D1, 22), ruled_out=((far, far + 600),), reached=(D1, "2100-05-01"), reach=(0, 0)
    )
    coverage = folded(without, batch({}, stateful=True, number=1, watermark=ms(D1, 22)))
    assert coverage.ahead == ()
    assert set(folded(without).intervals) == {D1, "2100-05-01"}
    assert set(folded(without, shape=WIDER).intervals) == {
        *(D1, D2, D3),
        *("2100-05-01", "2100-05-02", "2100-05-03"),
    }


def test_before_the_first_watermark_all_that_was_touched_is_ahead():
    coverage = folded(
        old(watermark=0), batch({}, stateful=True, number=1, watermark=0, touched=()), shape=WIDER
    )
    assert set(coverage.intervals) == {D1, D2, D3}


def test_rows_at_the_end_of_time_do_not_hinder():
    last = int(datetime(9999, 12, 31, 20, tzinfo=UTC).timestamp())
    coverage = folded(
        old(watermark=ms(D1, 22), touched=((last, last + 600),), reached=()),
        batch({}, stateful=True, number=1, watermark=ms(D1, 22)),
        shape=WIDER,
    )
    assert {D1, D2, D3} <= set(coverage.intervals)


def test_what_is_ahead_stays_small():
    ranges = [(n * 6000, n * 6000 + 600) for n in range(1000)] + [(10**9, 10**9 + 600)]
    found = ahead((), ranges, 6000 * 500 * 1000)
    assert len(found) == 64
    assert found[0][0] == 6000 * 500
    assert found[-1] == (10**9, 10**9 + 600)
    assert all(any(a <= start and end <= b for a, b in found) for start, end in ranges if start >= 6000 * 500)
    # Once the watermark is past them, nothing is.
    assert ahead(found, (), (10**9 + 600) * 1000) == ()


def test_a_restart_computes_all_that_newer_code_needs_and_is_its_doing_alone():
    facts = [old(watermark=ms(D1, 22)), batch({}, stateful=True, number=1, watermark=ms(D1, 23))]
    judged = judge(folded(*facts, shape=WIDER), WIDER, NOW)
    assert why_anew(judged, None, NOW, held=None) == f"{D1} is open, and other code has begun it"
    plan = plan_restart(
        pipeline(), judged, why="", carries=False, watermark=ms(D1, 23), pin=PIN, fingerprint=NOW, writer=WRITER
    )  # fmt: skip
    assert [each.label for each in plan.intervals] == [D1, D2, D3]
    anew = swap({each.label: result(0) for each in plan.intervals}, 1, seed=Seed("a", "query", 1, ms(D1, 23)))
    after = batch({}, stateful=True, number=2, watermark=ms(D5), planted="a")
    assert states(folded(*facts, anew, after, shape=WIDER), shape=WIDER) == dict.fromkeys(
        (D1, D2, D3), State.CLEAN
    )


DAY = timedelta(days=1)
BEGIN = datetime(2013, 1, 1, tzinfo=UTC)


@dataclass
class Stream:
    """Gives of each day, when the watermark has passed it, what it holds of its input; and drops what no later day needs.

    ``lookbacks``: of each code, in days.
    """

    lookbacks: tuple[int, int]
    code: int = 0
    watermark: datetime = BEGIN
    state: set[int] = field(default_factory=set)
    seen: list[int] = field(default_factory=list)
    table: dict[str, frozenset[int]] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def shape(self, code: int) -> Shape:
        return Shape(Grain.DAY, self.lookbacks[code] * DAY, timedelta(0))

    def batch(self, hours: Sequence[int], watermark: datetime) -> None:
        shape = self.shape(self.code)
        self.seen += hours
        self.state |= set(hours)
        added = {}
        day = interval_at(Grain.DAY, self.watermark)
        while day.end <= watermark:
            rows = self.read(self.state, self.code, day.start)
            if rows:
                self.table[day.label], added[day.label] = rows, 1
            day = interval_at(Grain.DAY, day.end)
        self.watermark = watermark
        self.state = {each for each in self.state if moment(each) >= day.start - shape.lookback}
        ranges = tuple((at(each), at(each) + 3600) for each in sorted(set(hours)))
        reached = {
            interval.label
            for each in hours
            for interval in intervals_reading(
                Grain.DAY,
                moment(each),
                moment(each) + HOUR,
                lookback=shape.lookback,
                lookahead=shape.lookahead,
            )
        }
        self.facts.append(
            batch(
                added,
                code=str(self.code),
                number=len(self.facts),
                stateful=True,
                watermark=int(watermark.timestamp()) * 1000,
                touched=ranges,
                reached=tuple(sorted(reached - added.keys())),
                reach=(shape.lookback // timedelta(milliseconds=1), 0),
            )
        )

    def read(self, rows: set[int], code: int, start: datetime) -> frozenset[int]:
        lookback = self.lookbacks[code] * DAY
        return frozenset(each for each in rows if start - lookback <= moment(each) < start + DAY)


def moment(hour: int) -> datetime:
    return BEGIN + hour * HOUR


def at(hour: int) -> int:
    return int(moment(hour).timestamp())


@settings(deadline=None, max_examples=300)
@given(
    st.tuples(st.integers(0, 2), st.integers(0, 4)),
    st.lists(st.tuples(st.lists(st.integers(1, 60), max_size=3), st.integers(1, 40)), min_size=2, max_size=8),
    st.integers(1, 7),
)
def test_what_newer_code_gives_of_older_state_is_right_or_not_clean(
    lookbacks: tuple[int, int], story: list[tuple[list[int], int]], change: int
):
    stream = Stream(lookbacks)
    for n, (rows, further) in enumerate(story):
        if n == change:
            stream.code = 1
        base = (stream.watermark - BEGIN) // HOUR
        stream.batch([base + each for each in rows], stream.watermark + further * HOUR)
    shape = stream.shape(stream.code)
    coverage = fold_all(Coverage(), [Commit(n, 0, each) for n, each in enumerate(stream.facts)], shape)
    known = {each.interval: each.state for each in judge(coverage, shape, str(stream.code))}
    day = interval_at(Grain.DAY, BEGIN)
    while day.end <= stream.watermark:
        if known.get(day, State.CLEAN) is State.CLEAN:
            wanted = stream.read(set(stream.seen), stream.code, day.start)
            assert stream.table.get(day.label, frozenset()) == wanted
        day = interval_at(Grain.DAY, day.end)


# ---- a restart that its stream has missed


SEED = Seed("begin-1", "query", 0, ms(D2, 6))
PLAIN = Shape(Grain.DAY, timedelta(days=1), timedelta(0))


def restarted(planted: str | None, *, by: str = NOW) -> list[Fact]:
    """A batch; a restart; two more batches; the restart and what follows ``by`` a code."""
    none = None if planted is None else ""
    touching = {"touched": touched(D1, D2), "reached": (D2,), "reach": reach(PLAIN)}
    return [
        batch({D1: 1}, stateful=True, watermark=ms(D2, 6), **touching),
        swap({D2: result(1)}, 0, seed=SEED, code=by),
        batch({}, stateful=True, number=1, watermark=ms(D4), planted=planted, code=by),
        batch({}, stateful=True, number=2, watermark=ms(D5), planted=none, code=by),
    ]


@pytest.mark.parametrize("planted", ["begin-1", None])
def test_a_batch_that_began_with_the_seed_or_does_not_say_is_as_it_was(planted: str | None):
    assert states(folded(*restarted(planted), shape=PLAIN), shape=PLAIN) == {D1: State.CLEAN, D2: State.CLEAN}


@pytest.mark.parametrize("planted", ["", "begin-0"])
def test_what_depends_on_the_state_of_a_stream_that_missed_its_restart_is_dirty(planted: str):
    facts = restarted(planted)
    coverage = folded(*facts, shape=PLAIN)
    # Day 3 looks back to what the stream holds of day 2.
    assert states(coverage, shape=PLAIN) == {D1: State.CLEAN, D2: State.DIRTY, D3: State.DIRTY}
    assert why(coverage, D3) == NOT_PLANTED
    assert coverage.stood == ()
    assert states(folded(*facts[:3], shape=PLAIN), shape=PLAIN)[D3] is State.DIRTY
    repaired = folded(*facts, swap({D2: result(1), D3: result(0)}, 3), shape=PLAIN)
    assert set(states(repaired, shape=PLAIN).values()) == {State.CLEAN}


def test_the_states_of_a_stream_that_missed_its_restart_are_still_those_of_the_code_before():
    coverage = folded(*restarted("", by="newer"), shape=PLAIN)
    assert coverage.intervals[D3].writers.keys() == {NOW, "newer"}


def test_of_two_restarts_in_a_row_the_last_is_begun_with():
    again = replace(SEED, name="begin-2")
    facts = restarted("begin-2")
    facts.insert(2, swap({D2: result(1)}, 1, seed=again, run="r2"))
    assert states(folded(*facts, shape=PLAIN), shape=PLAIN) == {D1: State.CLEAN, D2: State.CLEAN}


# ---- a batch that does not go on where the one before had ended


def test_after_a_gap_in_the_input_all_that_is_known_is_dirty_until_it_is_backfilled():
    def read(start: int, end: int) -> dict[str, Any]:
        return {
            "source_start": {"events": {"place": 0, "offset": {"logOffset": start}}},
            "source_end": {"events": {"place": 0, "offset": {"logOffset": end}}},
        }

    one = batch({D1: 1}, stateful=True, watermark=ms(D2), touched=touched(D1, D2), reached=(D2,))
    two = batch({D2: 1}, stateful=True, number=1, watermark=ms(D3), touched=touched(D3, D3), reached=(D3,))
    facts = [replace(one, **read(0, 4)), replace(two, **read(5, 6))]
    coverage = folded(*facts)
    assert states(coverage) == {D1: State.DIRTY, D2: State.DIRTY, D3: State.OPEN}
    assert why(coverage, D1) == "batch 1 does not begin where the one before it ended"
    assert coverage.broken == why(coverage, D1)
    later = replace(batch({D3: 1, D4: 1}, stateful=True, number=2, watermark=ms(D5)), **read(6, 7))
    assert states(folded(*facts, later)) == {**dict.fromkeys((D1, D2, D3), State.DIRTY), D4: State.CLEAN}
    repaired = folded(*facts, later, swap({day: result(1) for day in (D1, D2, D3)}, 2))
    assert set(states(repaired).values()) == {State.CLEAN}
    # One that goes on from there is as any other.
    assert folded(*facts, later).intervals[D1].marks[0].version == 1
