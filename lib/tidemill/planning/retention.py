"""Which intervals of an archive go by its sink's retention. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tidemill.intervals import Interval
from tidemill.model import Retain


def outdated(retain: Retain, sizes: Mapping[Interval, int], now: datetime) -> tuple[Interval, ...]:
    """The oldest intervals that have to go, of those that have ended; ``sizes`` are the bytes of each.

    >>> from tidemill.intervals import Grain, interval_at, parse_moment
    >>> days = [interval_at(Grain.DAY, parse_moment(f"2024-05-0{day}")) for day in (1, 2, 3)]
    >>> found = outdated(Retain(size=25), dict.fromkeys(days, 10), parse_moment("2024-05-03T12:00"))
    >>> [each.label for each in found]
    ['2024-05-01']
    """
    total, found = sum(sizes.values()), []
    for interval in sorted(each for each in sizes if each.end <= now):
        old = retain.age is not None and interval.end <= now - retain.age
        if not old and (retain.size is None or total <= retain.size):
            break
        found.append(interval)
        total -= sizes[interval]
    return tuple(found)
