"""Intervals tile time; labels and durations are read back as they were written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.errors import ConfigError, PlanError
from tidemill.intervals import (
    Grain,
    Interval,
    format_duration,
    interval_at,
    intervals_between,
    labels,
    parse_duration,
    parse_label,
    parse_moment,
)

grains = st.sampled_from(Grain)
calendar_grains = st.sampled_from([grain for grain in Grain if grain is not Grain.ALL])
moments = st.datetimes(datetime(1, 1, 2), datetime(9998, 12, 31), timezones=st.just(UTC))
recent = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(grains, moments)
def test_the_interval_of_a_moment_holds_it(grain: Grain, moment: datetime):
    found = interval_at(grain, moment)

    assert found.start <= moment < found.end


@given(calendar_grains, moments)
def test_neighbours_touch_without_gap_or_overlap(grain: Grain, moment: datetime):
    found = interval_at(grain, moment)

    assert interval_at(grain, found.start) == found
    assert interval_at(grain, found.end - timedelta(microseconds=1)) == found
    assert interval_at(grain, found.end).start == found.end


@given(grains, recent, st.integers(0, 3000), st.integers(0, 3599))
def test_a_range_is_tiled_by_its_intervals(grain: Grain, start: datetime, hours: int, seconds: int):
    end = start + timedelta(hours=hours, seconds=seconds)

    tiles = list(intervals_between(grain, start, end))

    if start == end:
        # An empty range that starts on a boundary touches nothing.
        assert len(tiles) == (interval_at(grain, start).start != start)
        return
    assert tiles[0].start <= start < tiles[0].end
    assert tiles[-1].start < end <= tiles[-1].end
    assert all(a.end == b.start for a, b in pairwise(tiles))


@given(grains, moments)
def test_a_label_reads_back_as_its_interval(grain: Grain, moment: datetime):
    found = interval_at(grain, moment)

    assert parse_label(grain, found.label) == found


@given(grains, moments, moments)
def test_labels_sort_as_time_does(grain: Grain, one: datetime, other: datetime):
    a, b = interval_at(grain, one), interval_at(grain, other)

    assert (a.label < b.label) == (a.start < b.start)


@pytest.mark.parametrize(
    ("grain", "moment", "label", "end"),
    [
        (Grain.HOUR, "2013-03-10T02:59:59.999999", "2013-03-10T02", "2013-03-10T03:00"),
        (Grain.DAY, "2012-02-29T12:00", "2012-02-29", "2012-03-01"),
        (Grain.DAY, "2013-12-31T23:59", "2013-12-31", "2014-01-01"),
        (Grain.MONTH, "2013-01-31T23:59", "2013-01", "2013-02-01"),
        (Grain.MONTH, "2012-02-29", "2012-02", "2012-03-01"),
        (Grain.MONTH, "2013-12-01", "2013-12", "2014-01-01"),
        (Grain.DAY, "0871-04-05", "0871-04-05", "0871-04-06"),
        (Grain.MONTH, "0871-04-05", "0871-04", "0871-05-01"),
    ],
)
def test_intervals_are_calendar_units_of_utc(grain: Grain, moment: str, label: str, end: str):
    found = interval_at(grain, at(moment))

    assert (found.label, found.end) == (label, at(end))


def test_all_of_time_is_one_interval_with_a_label_and_no_column():
    whole = interval_at(Grain.ALL, at("2013-01-05"))

    assert (whole.label, Grain.ALL.columns) == ("all", [])
    assert whole == interval_at(Grain.ALL, whole.start) == interval_at(Grain.ALL, at("1000-01-01"))
    assert list(intervals_between(Grain.ALL, at("2013-01-01"), at("2014-01-01"))) == [whole]
    # Facts keep the ends in whole seconds, and read them back.
    assert [datetime.fromtimestamp(int(each.timestamp()), UTC) for each in (whole.start, whole.end)] == [
        whole.start,
        whole.end,
    ]
    assert whole.meets(at("0001-01-01"), at("0001-01-02"))
    with pytest.raises(ValueError, match="is not 'all'"):
        parse_label(Grain.ALL, "2013-01-05")


def test_months_are_as_long_as_the_calendar_says():
    year = list(intervals_between(Grain.MONTH, at("2012-01-01"), at("2013-01-01")))

    assert [(m.end - m.start).days for m in year] == [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def test_a_moment_of_another_zone_counts_in_utc():
    new_york = timezone(timedelta(hours=-5))

    assert interval_at(Grain.DAY, datetime(2013, 1, 1, 20, tzinfo=new_york)).label == "2013-01-02"


def test_a_naive_moment_is_utc_already():
    assert interval_at(Grain.HOUR, datetime(2013, 1, 1, 20)).start == at("2013-01-01T20:00")


@pytest.mark.parametrize(
    ("start", "end", "meets"),
    [
        ("2013-01-04", "2013-01-05", False),  # ends where the day begins
        ("2013-01-06", "2013-01-07", False),  # begins where the day ends
        ("2013-01-05T23:59:59", "2013-01-09", True),
        ("2013-01-01", "2013-01-05T00:00:01", True),
        ("2013-01-05T10:00", "2013-01-05T11:00", True),
    ],
)
def test_an_interval_meets_what_shares_a_moment_with_it(start: str, end: str, meets: bool):  # noqa: FBT001
    assert parse_label(Grain.DAY, "2013-01-05").meets(at(start), at(end)) is meets


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2013-01-05", "2013-01-05"),
        (" 2013-01 ", "2013-01-01"),
        ("2013-01-05T13", "2013-01-05T13:00"),
        ("2013-01-05T13:30:00Z", "2013-01-05T13:30"),
        ("2013-01-05 13:30:00", "2013-01-05T13:30"),
        ("2013-01-05T13:30:00+02:00", "2013-01-05T11:30"),
    ],
)
def test_moments_are_read_as_utc(text: str, moment: str):
    assert parse_moment(text) == at(moment)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2013-13", "2013-02-30", "2013-01-05T25", "0001-01-01T00:00:00+05:00"]
)
def test_what_is_not_a_moment_is_refused_with_an_example(text: str):
    with pytest.raises(PlanError) as refused:
        parse_moment(text)

    assert "2013-01-05T13:30:00Z" in refused.value.next_step


@given(st.timedeltas(timedelta(0), timedelta(days=99_999)))
def test_a_duration_of_whole_milliseconds_reads_back(value: timedelta):
    value -= timedelta(microseconds=value.microseconds % 1000)

    assert parse_duration(format_duration(value)) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2 hours", 7200),
        ("15m", 900),
        ("1h 30m", 5400),
        ("1h30m", 5400),
        ("0h", 0),
        ("1 WEEK", 604_800),
        ("250 milliseconds", 0.25),
        ("1 day 1 second", 86_401),
        ("2 min", 120),
    ],
)
def test_durations_are_written_in_many_ways(text: str, seconds: float):
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "  ", "5", "h", "-1h", "1.5h", "2 fortnights", "1h,", "99999999999999d"]
)
def test_what_is_not_a_duration_is_refused_with_an_example(text: str):
    with pytest.raises(ConfigError) as refused:
        parse_duration(text)

    assert "15m" in refused.value.next_step


def test_a_message_names_a_few_labels_and_counts_the_others():
    days: list[Interval] = list(intervals_between(Grain.DAY, at("2013-01-01"), at("2013-01-08")))

    assert labels(days[:2]) == "2013-01-01, 2013-01-02"
    assert labels(days, most=2) == "2013-01-01, 2013-01-02 and 5 more"
