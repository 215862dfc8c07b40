"""How a change upstream reaches the intervals below it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.intervals import Grain, interval_at, intervals_between, parse_label
from tidemill.ledger.changes import Changes, fold_all
from tidemill.ledger.coverage import Coverage, IntervalCoverage
from tidemill.ledger.facts import Commit, Fact, Foreign, IntervalResult, LiveBatch, Swap, Undo
from tidemill.model import Pipeline
from tidemill.planning.upstream import changed_upstream


def pipeline(**changes: Any) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "below",
            "source": {"delta": {"path": "above"}},
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": "out"}},
            **changes,
        }
    )


def coverage(*labels: str) -> Coverage:
    return Coverage(version=3, intervals={label: IntervalCoverage(rows=1) for label in labels})


KNOWN = ("2013-01-04", "2013-01-05", "2013-01-06")


def dirty(
    fact: Fact,
    *,
    version: int = 9,
    pins: dict[str, int | None] | None = None,
    appends: bool = False,
    grain: Grain = Grain.DAY,
    since: int = -1,
    **changes: Any,
) -> dict[str, str]:
    return changed_upstream(
        pipeline(**changes),
        coverage(*KNOWN),
        fold_all(Changes(since=since), [Commit(version, 0, fact)]),
        table="above",
        grain=grain,
        pins=pins if pins is not None else dict.fromkeys(KNOWN, 5),
        floor=5,
        appends=appends,
    )


def swap(**intervals: tuple[int, int]) -> Swap:
    results = {f"2013-01-{name[1:]}": IntervalResult(9, "h", *change) for name, change in intervals.items()}
    return Swap("above", "r", 0, "f", 8, {}, results)


def live(added: dict[str, int], removed: dict[str, int] | None = None) -> LiveBatch:
    return LiveBatch("above", "r", "f", "q", 1, {}, {}, stateful=False, added=added, removed=removed or {})


def test_a_backfill_upstream_makes_the_same_interval_dirty_with_the_reason():
    assert dirty(swap(d05=(1, 0))) == {"2013-01-05": "above was backfilled at version 9"}


def test_a_backfill_that_found_an_interval_equal_changes_nothing_below():
    assert dirty(swap(d05=(0, 0), d06=(0, 2))) == {"2013-01-06": "above was backfilled at version 9"}


def test_lookback_and_lookahead_carry_a_change_to_the_neighbours():
    assert set(dirty(swap(d05=(1, 0)), lookback="1h")) == {"2013-01-05", "2013-01-06"}
    assert set(dirty(swap(d05=(1, 0)), lookahead="1h")) == {"2013-01-04", "2013-01-05"}
    assert set(dirty(swap(d05=(1, 0)), lookback="25h")) == {"2013-01-05", "2013-01-06", "2013-01-07"}


def test_an_interval_without_rows_below_turns_dirty_too():
    assert set(dirty(swap(d09=(1, 0)))) == {"2013-01-09"}


def test_an_undo_upstream_reaches_below():
    assert dirty(Undo("above", "r", 0, {"2013-01-05": -3})) == {
        "2013-01-05": "above had a backfill undone at version 9"
    }


def test_an_update_reaches_below_and_an_append_is_left_to_the_stream():
    assert dirty(live({"2013-01-05": 2})) == {}
    assert dirty(live({"2013-01-05": 2}, {"2013-01-04": 1})) == {
        "2013-01-04": "above was updated at version 9"
    }


def test_where_no_stream_takes_them_in_appends_reach_below():
    assert dirty(live({"2013-01-05": 2}), appends=True) == {"2013-01-05": "above has new rows at version 9"}
    assert dirty(Foreign("WRITE", ("2013-01-05",), replaced=False), appends=True) != {}


def test_a_stranger_who_replaced_rows_reaches_below_and_one_who_appended_does_not():
    assert dirty(Foreign("DELETE", ("2013-01-05",))) == {
        "2013-01-05": "above was changed by DELETE at version 9"
    }
    assert dirty(Foreign("WRITE", ("2013-01-05",), replaced=False)) == {}


def test_a_stranger_who_cannot_be_placed_reaches_everything_known():
    assert set(dirty(Foreign("DELETE", None))) == set(KNOWN)


@pytest.mark.parametrize(("seen", "reached"), [(8, True), (9, False), (10, False), (None, True)])
def test_an_interval_made_from_the_change_or_from_later_is_not_dirty(seen: int | None, reached: bool):  # noqa: FBT001
    assert bool(dirty(swap(d05=(1, 0)), pins={"2013-01-05": seen})) is reached


def test_hours_above_reach_the_day_below():
    result = {"2013-01-05T23": IntervalResult(1, "h", 1, 0)}

    assert set(dirty(Swap("above", "r", 0, "f", 8, {}, result), grain=Grain.HOUR)) == {"2013-01-05"}
    assert set(dirty(Swap("above", "r", 0, "f", 8, {}, result), grain=Grain.HOUR, lookback="1m")) == {
        "2013-01-05",
        "2013-01-06",
    }


def test_a_month_above_reaches_all_its_days_below():
    change = Swap("above", "r", 0, "f", 8, {}, {"2013-02": IntervalResult(1, "h", 1, 0)})

    assert sorted(dirty(change, grain=Grain.MONTH)) == [f"2013-02-{day:02}" for day in range(1, 29)]


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([grain for grain in Grain if grain is not Grain.ALL]),
    st.integers(0, 60),
    st.integers(0, 60),
    st.datetimes(
        *(parse_label(Grain.DAY, day).start.replace(tzinfo=None) for day in ("2013-01-01", "2013-12-31"))
    ),
    st.integers(1, 60),
)
def test_the_intervals_that_read_a_range_are_those_whose_input_meets_it(
    grain: Grain, back: int, ahead: int, start: Any, length: int
):
    start = interval_at(Grain.HOUR, start).start
    end = start + timedelta(hours=length)
    one = pipeline(interval=grain.value, lookback=f"{back}h", lookahead=f"{ahead}h")

    wide = intervals_between(grain, start - timedelta(days=40), end + timedelta(days=40))
    reading = [i for i in wide if one.input_range(i)[0] < end and start < one.input_range(i)[1]]

    assert list(one.intervals_reading(start, end)) == reading


def test_a_pin_from_before_the_log_begins_says_nothing_of_what_came_since():
    pins: dict[str, int | None] = {"2013-01-04": 3, "2013-01-05": 8, "2013-01-06": None}

    assert dirty(swap(), pins=pins, since=6) == {
        "2013-01-04": "above no longer says what happened at version 6",
        "2013-01-06": "above no longer says what happened at version 6",
    }


def test_a_table_of_all_of_time_is_dirty_whatever_changes_above_it():
    assert set(dirty(swap(d05=(1, 0)), interval="all")) == {"all"}
    assert set(dirty(Foreign("DELETE", None), interval="all")) == {"all"}


def test_a_change_of_all_of_time_makes_everything_below_dirty():
    whole = Swap("above", "r", 0, "f", 8, {}, {"all": IntervalResult(9, "h", 1, 0)})

    assert set(dirty(whole, grain=Grain.ALL)) == set(KNOWN)
    assert set(dirty(whole, grain=Grain.ALL, interval="all")) == {"all"}
