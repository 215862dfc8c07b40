"""Which intervals a request means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tidemill.errors import PlanError
from tidemill.intervals import Grain, parse_label
from tidemill.ledger.coverage import IntervalCoverage
from tidemill.ledger.judge import Judged, State
from tidemill.planning.selection import Request, Selection, select

NOW = datetime(2013, 1, 10, 12, tzinfo=UTC)


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2013, 1, number, hour, tzinfo=UTC)


def judged(**states: State) -> list[Judged]:
    """``d5=State.CLEAN`` is January 5, clean."""
    return [
        Judged(
            parse_label(Grain.DAY, f"2013-01-{int(name[1:]):02}"),
            state,
            f"is {state.value}",
            IntervalCoverage(),
        )
        for name, state in states.items()
    ]


KNOWN = judged(d3=State.CLEAN, d4=State.DIRTY, d6=State.STALE, d7=State.OPEN)


def chosen(known: list[Judged], request: Request, **more: Any) -> list[str]:
    return [each.interval.label[-2:] for each in selection(known, request, **more).chosen]


def selection(
    known: list[Judged], request: Request, *, live: bool = True, begin: datetime | None = None
) -> Selection:
    return select(known, request, grain=Grain.DAY, live=live, begin=begin, now=NOW)


def test_a_range_means_every_interval_in_it_clean_ones_too():
    assert chosen(KNOWN, Request(day(3), day(5))) == ["03", "04"]


def test_the_end_of_a_range_is_not_included():
    assert chosen(KNOWN, Request(day(4), day(6))) == ["04", "05"]


def test_a_range_inside_an_interval_means_the_whole_of_it():
    assert chosen(KNOWN, Request(day(4, 10), day(4, 11))) == ["04"]


def test_a_range_may_be_open_on_either_side():
    assert chosen(KNOWN, Request(start=day(4))) == ["04", "05", "06"]
    assert chosen(KNOWN, Request(end=day(5))) == ["03", "04"]


def test_states_restrict():
    assert chosen(KNOWN, Request(states=frozenset({State.DIRTY}))) == ["04"]
    assert chosen(KNOWN, Request(states=frozenset({State.DIRTY, State.STALE}))) == ["04", "06"]
    assert chosen(KNOWN, Request(day(5), day(9), frozenset({State.DIRTY, State.STALE}))) == ["06"]


def test_open_intervals_are_left_out_with_the_reason():
    found = selection(KNOWN, Request(day(6), day(8)))

    assert [each.interval.label for each in found.chosen] == ["2013-01-06"]
    assert [(each.interval.label, each.why) for each in found.left_out] == [("2013-01-07", "open: is open")]


def test_open_intervals_are_taken_when_asked_for_and_travel_alone():
    found = selection(KNOWN, Request(day(6), day(8), include_open=True))

    assert [each.interval.label for each in found.chosen] == ["2013-01-07"]
    assert [(each.interval.label, each.why) for each in found.left_out] == [("2013-01-06", "not open")]


def test_asking_for_open_intervals_alone_means_only_those():
    found = selection(KNOWN, Request(include_open=True))

    assert [each.interval.label for each in found.chosen] == ["2013-01-07"]
    assert found.left_out == ()


def test_the_newest_may_come_first():
    assert chosen(KNOWN, Request(day(3), day(7), newest_first=True)) == ["06", "05", "04", "03"]


def test_between_what_a_live_table_knows_an_unknown_interval_is_empty_and_may_be_recomputed():
    found = selection(KNOWN, Request(day(5), day(6))).chosen

    assert [(each.interval.label, each.state, each.why) for each in found] == [
        ("2013-01-05", State.CLEAN, "empty")
    ]


def test_a_live_table_misses_nothing():
    assert chosen(KNOWN, Request(states=frozenset({State.MISSING}))) == []


def test_a_range_outside_a_live_table_is_refused_naming_what_it_covers():
    with pytest.raises(PlanError) as refused:
        selection(KNOWN, Request(day(20), day(22)))

    assert "2013-01-03 to 2013-01-07" in refused.value.message
    assert refused.value.next_step


@pytest.mark.parametrize("end", [day(4), day(3)])
def test_an_empty_range_is_refused(end: datetime):
    with pytest.raises(PlanError) as refused:
        selection(KNOWN, Request(day(4), end))

    assert "not included" in refused.value.next_step


def test_without_a_stream_what_was_never_computed_is_missing():
    known = judged(d3=State.CLEAN, d5=State.DIRTY)

    assert chosen(known, Request(states=frozenset({State.MISSING})), live=False, begin=day(1)) == [
        "01", "02", "04", "06", "07", "08", "09", "10",
    ]  # fmt: skip


def test_without_a_stream_a_range_brings_what_is_missing_in_it():
    known = judged(d3=State.CLEAN)

    found = selection(known, Request(day(2), day(5)), live=False).chosen

    assert [(each.interval.label[-2:], each.state) for each in found] == [
        ("02", State.MISSING),
        ("03", State.CLEAN),
        ("04", State.MISSING),
    ]


def test_without_a_stream_and_without_a_beginning_only_what_lies_between_known_intervals_is_missing():
    known = judged(d7=State.CLEAN, d9=State.CLEAN)

    assert chosen(known, Request(states=frozenset({State.MISSING})), live=False) == ["08"]


def test_of_a_table_that_nobody_has_begun_nothing_is_known():
    assert chosen([], Request(states=frozenset({State.MISSING})), live=False) == []
    assert chosen([], Request(day(1), day(3)), live=False) == ["01", "02"]
    assert chosen([], Request(states=frozenset({State.DIRTY}))) == []


ALL = parse_label(Grain.ALL, "all")


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("request_", [Request(start=day(1)), Request(end=day(2)), Request(day(1), day(2))])
def test_of_all_of_time_no_part_can_be_asked_for(request_: Request, live: bool):  # noqa: FBT001
    known = [Judged(ALL, State.STALE, "is stale", IntervalCoverage())]

    with pytest.raises(PlanError, match="one interval") as caught:
        select(known, request_, grain=Grain.ALL, live=live, begin=None, now=NOW)
    assert "tidemill replay" in caught.value.next_step


def test_all_of_time_is_missing_until_someone_has_computed_it():
    missing = Request(states=frozenset({State.MISSING}))

    found = select([], missing, grain=Grain.ALL, live=False, begin=None, now=NOW).chosen
    live = select([], missing, grain=Grain.ALL, live=True, begin=None, now=NOW).chosen
    known = [Judged(ALL, State.CLEAN, "", IntervalCoverage())]
    clean = select(known, missing, grain=Grain.ALL, live=False, begin=None, now=NOW).chosen

    assert [(each.interval, each.state) for each in found] == [(ALL, State.MISSING)]
    assert (live, clean) == ((), ())


def test_a_request_says_whether_it_asks_for_anything():
    assert not Request().anything
    assert not Request(newest_first=True).anything
    assert Request(start=day(1)).anything
    assert Request(states=frozenset({State.DIRTY})).anything
