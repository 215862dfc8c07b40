"""Half-open slices of event time, in UTC, aligned to a grain.

An interval is the unit of everything tidemill promises: a table is partitioned by it, coverage is kept by
it, a backfill replaces it. Intervals of one grain tile time without gap or overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tidemill.errors import ConfigError, PlanError

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_ALIASES = {
    "millisecond": "ms", "milliseconds": "ms", "sec": "s", "second": "s", "seconds": "s",
    "min": "m", "minute": "m", "minutes": "m", "hour": "h", "hours": "h", "day": "d", "days": "d",
    "week": "w", "weeks": "w",
}  # fmt: skip
ALL_LABEL = "all"
"""The label of the one interval that is all of time."""
BEGINNING, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(microsecond=0, tzinfo=UTC)
"""The first and the last moment that there are, in whole seconds: facts count in those."""
_DURATION = re.compile(r"\s*(\d+)\s*([a-z]+)\s*", re.ASCII)


class Grain(StrEnum):
    """How long an interval is. Days and months are calendar units of UTC; ``all`` is one interval, all of time."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    ALL = "all"

    @property
    def label_format(self) -> str:
        """The ``strptime`` pattern of an interval's label, which also names its folder."""
        return {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m", "all": ALL_LABEL}[self.value]

    @property
    def column(self) -> str:
        """The partition column that a table of this grain carries; "" for ``all``, whose table has no partitions."""
        return {"hour": "event_hour", "day": "event_date", "month": "event_month", "all": ""}[self.value]

    @property
    def columns(self) -> list[str]:
        """The columns that a table of this grain is partitioned by."""
        return [self.column] if self.column else []

    def floor(self, at: datetime) -> datetime:
        """The start of the interval that holds ``at``."""
        if self is Grain.ALL:
            return BEGINNING
        at = utc(at)
        if self is Grain.HOUR:
            return at.replace(minute=0, second=0, microsecond=0)
        if self is Grain.DAY:
            return at.replace(hour=0, minute=0, second=0, microsecond=0)
        return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    def after(self, start: datetime) -> datetime:
        """The start of the interval that follows the one starting at ``start``; the end of time for ``all``."""
        if self is Grain.ALL:
            return END
        if self is Grain.HOUR:
            return start + timedelta(hours=1)
        if self is Grain.DAY:
            return start + timedelta(days=1)
        return (start + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True, order=True, slots=True)
class Interval:
    """``[start, end)`` in UTC.

    >>> day = interval_at(Grain.DAY, datetime(2013, 1, 5, 13, tzinfo=UTC))
    >>> day.label, day.end.day
    ('2013-01-05', 6)
    """

    start: datetime
    end: datetime
    grain: Grain

    @property
    def label(self) -> str:
        """How a person writes it; parses back with :func:`parse_label`."""
        if self.grain is Grain.ALL:
            return ALL_LABEL
        # Not strftime: it does not pad years before 1000.
        return self.start.isoformat()[: {"hour": 13, "day": 10, "month": 7}[self.grain.value]]

    def meets(self, start: datetime, end: datetime) -> bool:
        """Whether ``[start, end)`` and this interval share a moment."""
        return self.start < end and start < self.end

    def __str__(self) -> str:
        return self.label


def utc(at: datetime) -> datetime:
    """``at`` in UTC; a naive value is taken to be UTC already."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def interval_at(grain: Grain, at: datetime) -> Interval:
    """The interval of ``grain`` that holds ``at``."""
    start = grain.floor(at)
    return Interval(start, grain.after(start), grain)


def intervals_between(grain: Grain, start: datetime, end: datetime) -> Iterator[Interval]:
    """Every interval that shares a moment with ``[start, end)``, in order."""
    current = interval_at(grain, start)
    while current.start < utc(end):
        yield current
        if grain is Grain.ALL:
            return
        current = interval_at(grain, current.end)


def intervals_reading(
    grain: Grain, start: datetime, end: datetime, *, lookback: timedelta, lookahead: timedelta
) -> Iterator[Interval]:
    """Every interval whose input, ``[its start - lookback, its end + lookahead)``, meets ``[start, end)``, in order.

    An empty overlap does not count: an interval ending at ``start`` with no lookahead is not among them.

    >>> noon, day = datetime(2013, 1, 5, 12, tzinfo=UTC), timedelta(days=1)
    >>> found = intervals_reading(Grain.DAY, noon, noon + day / 24, lookback=day, lookahead=timedelta(0))
    >>> [each.label for each in found]
    ['2013-01-05', '2013-01-06']
    """
    current = interval_at(grain, start if grain is Grain.ALL else start - lookahead)
    if grain is Grain.ALL:
        yield current
        return
    while current.start - lookback < end:
        if current.end + lookahead > start:
            yield current
        current = interval_at(grain, current.end)


def parse_moment(text: str) -> datetime:
    """A date, a month or an ISO-8601 moment, as UTC.

    Raises :class:`PlanError` when it is none of these.

    >>> parse_moment("2013-01-05").isoformat()
    '2013-01-05T00:00:00+00:00'
    """
    value = text.strip()
    try:
        if re.fullmatch(r"\d{4}-\d{2}", value):
            return datetime.strptime(value, "%Y-%m").replace(tzinfo=UTC)
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}", value):
            return datetime.strptime(value, "%Y-%m-%dT%H").replace(tzinfo=UTC)
        return utc(datetime.fromisoformat(value))
    except (ValueError, OverflowError):
        raise PlanError(
            f"{text!r} is not a moment", next_step="write 2013-01-05, 2013-01-05T13 or 2013-01-05T13:30:00Z"
        ) from None


def parse_label(grain: Grain, label: str) -> Interval:
    """The interval that :attr:`Interval.label` names."""
    if grain is Grain.ALL:
        if label != ALL_LABEL:
            raise ValueError(f"{label!r} is not {ALL_LABEL!r}")
        return interval_at(grain, BEGINNING)
    return interval_at(grain, datetime.strptime(label, grain.label_format).replace(tzinfo=UTC))


def grain_of(label: str) -> Grain:
    """The grain of the interval that a label names: no label is of two. Raises :class:`ValueError` for any other text.

    >>> str(grain_of("2024-03-01")), str(grain_of("2024-03"))
    ('day', 'month')
    """
    for grain in Grain:
        with suppress(ValueError):
            return parse_label(grain, label).grain
    raise ValueError(f"{label!r} names no interval")


def parse_duration(text: str) -> timedelta:
    """``"2 hours"``, ``"15m"``, ``"1h 30m"`` or ``"0h"`` as a timedelta.

    Raises :class:`ConfigError` when the text is anything else.

    >>> parse_duration("1h 30m")
    datetime.timedelta(seconds=5400)
    """
    total, position = timedelta(0), 0
    value = text.lower()
    while match := _DURATION.match(value, position):
        unit = _UNITS.get(_ALIASES.get(match[2], match[2]))
        if unit is None:
            break
        try:
            total += int(match[1]) * unit
        except OverflowError:
            break
        position = match.end()
    if position != len(value) or not value.strip():
        raise ConfigError(f"{text!r} is not a duration", next_step="write for example 2 hours, 15m or 1d")
    return total


def format_duration(value: timedelta) -> str:
    """The shortest text that :func:`parse_duration` reads back.

    >>> format_duration(timedelta(hours=2))
    '2h'
    """
    rest, parts = value, []
    for name in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS[name])
        if count:
            parts.append(f"{count}{name}")
    return " ".join(parts) or "0h"


def labels(intervals: Iterable[Interval], most: int = 5) -> str:
    """A few labels for a message, with a count of the others."""
    listed = [interval.label for interval in intervals]
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
