"""What the flights' tables must hold, worked out of the events in plain Python; and whether they do."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from jobs.flights_events import FIRST_DAY, write_events

Event = dict[str, Any]
Rows = set[tuple[Any, ...]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def arrivals(folder: Path, days: int) -> list[list[Event]]:
    """The events of the first days of 2013, by the hour in which they arrived; written to `folder` on the way."""
    write_events(folder, days=days)
    # An earlier demo may have left those of more days there.
    end = FIRST_DAY + timedelta(days=days)
    hours = [[e for e in _read(path) if _local_day(e) < end] for path in sorted(folder.glob("*.json"))]
    return [hour for hour in hours if hour]


def departures(events: Iterable[Event]) -> Rows:
    """A row for each flight that left: id, when it was due, delay."""
    return {(e["flight_id"], due(e), e["dep_delay"]) for e in left(events)}


def delays(events: Iterable[Event]) -> Rows:
    """A row for each quarter of an hour and airport: flights, mean and greatest delay."""
    found = windows(events, timedelta(minutes=15))
    return {(*at, len(late), sum(late) / len(late), max(late)) for at, late in found.items()}


def windows(events: Iterable[Event], length: timedelta) -> dict[tuple[datetime, str], list[int]]:
    """The delays of the flights that left, by the window in which they were due and by airport."""
    found: defaultdict[tuple[datetime, str], list[int]] = defaultdict(list)
    for event in left(events):
        found[due(event) - (due(event) - _EPOCH) % length, event["origin"]].append(event["dep_delay"])
    return found


def left(events: Iterable[Event]) -> Iterable[Event]:
    """The events of flights that were not cancelled."""
    return (event for event in events if event["dep_time"] is not None)


def due(event: Event) -> datetime:
    """When a flight was due to leave."""
    return datetime.fromisoformat(event["scheduled_at"])


def differing(table: str, columns: Sequence[str], wanted: Rows) -> tuple[int, int]:
    """How many rows a table holds, and how many it lacks, has too much, or has otherwise than wanted."""
    rows = DeltaTable(table).to_pyarrow_table(columns=list(columns)).to_pylist()
    found = Counter(tuple(row.values()) for row in rows)
    return found.total(), ((found - Counter(wanted)) + (Counter(wanted) - found)).total()


def _read(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _local_day(event: Event) -> date:
    return date(event["year"], event["month"], event["day"])


WANTED = {
    "departures": (("flight_id", "scheduled_at", "dep_delay"), departures),
    "delays": (("window_start", "origin", "flights", "mean_delay", "max_delay"), delays),
}
"""Of each of the two pipelines: the columns to compare, and what they must hold."""
