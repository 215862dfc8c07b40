"""The index saves time and nothing else: however it is damaged, the log has it all."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidemill.errors import StateError
from tidemill.intervals import Grain
from tidemill.ledger import index
from tidemill.ledger.carried import Lived, Seed
from tidemill.ledger.coverage import Coverage, Shape
from tidemill.ledger.coverage_json import from_json
from tidemill.ledger.covered import Stood
from tidemill.ledger.facts import IntervalResult, LiveBatch, Swap, to_json

SHAPE = Shape(Grain.DAY, timedelta(0), timedelta(0))
D1, D2 = "2013-01-01", "2013-01-02"


def live(number: int, late: tuple[str, ...] = ()) -> LiveBatch:
    return LiveBatch(
        "p", "r", "code", "q", number, {}, {"e": {"at": number}}, False, added={D1: 2}, late=late
    )


SWAP = Swap("p", "r1", 0, "code", 1, {"e": {"at": 1}}, {D2: IntervalResult(4, "h", 4, 0)})


def commit(table: Path, version: int, fact: LiveBatch | Swap) -> None:
    folder = table / "_delta_log"
    folder.mkdir(parents=True, exist_ok=True)
    body = {"commitInfo": {"timestamp": version, "userMetadata": to_json(fact)}}
    (folder / f"{version:020d}.json").write_text(json.dumps(body, separators=(",", ":")))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three commits: two batches of two rows in day 1, and a backfill of four rows in day 2."""
    table = tmp_path / "table"
    commit(table, 0, live(0))
    commit(table, 1, live(1, late=(D2,)))
    commit(table, 2, SWAP)
    return table


def read(table: Path) -> Coverage:
    return index.read(str(table), str(table / "state"), SHAPE)


def refresh(table: Path, known: Coverage | None = None) -> Coverage:
    return index.refresh(str(table), str(table / "state"), SHAPE, known)


def file(table: Path) -> Path:
    return table / "state" / "index.json"


def check(coverage: Coverage) -> None:
    assert coverage.version == 2
    assert {label: each.rows for label, each in coverage.intervals.items()} == {D1: 4, D2: 4}
    assert coverage.intervals[D2].marks == ()
    assert coverage.intervals[D2].hash == "h"


def test_reading_writes_nothing(table: Path):
    check(read(table))

    assert not (table / "state").exists()


def test_a_refreshed_index_reads_the_same(table: Path):
    check(refresh(table))

    check(read(table))
    assert read(table) == refresh(table)


def test_what_the_log_holds_since_is_folded_on_top(table: Path):
    known = refresh(table)
    commit(table, 3, live(2))

    assert read(table).intervals[D1].rows == 6
    assert refresh(table, known).intervals[D1].rows == 6
    assert json.loads(file(table).read_text())["coverage"]["version"] == 3


def test_a_deleted_index_is_rebuilt_equal(table: Path):
    before = refresh(table)
    text = file(table).read_text()
    file(table).unlink()

    assert refresh(table) == before
    assert file(table).read_text() == text


@pytest.mark.parametrize("cut", [0, 1, 40, 0.5, -1])
def test_a_torn_index_is_rebuilt_equal(table: Path, cut: float):
    before = refresh(table)
    text = file(table).read_text()
    file(table).write_text(text[: int(len(text) * cut)] if isinstance(cut, float) else text[:cut])

    assert read(table) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body | {"format": 1},
        lambda body: body | {"coverage": []},
        lambda body: body | {"coverage": {**body["coverage"], "intervals": []}},
        lambda body: body | {"coverage": {**body["coverage"], "of_another_age": 1}},
        lambda body: {k: v for k, v in body.items() if k != "last"},
        lambda _body: [],
        lambda _body: 7,
    ],
)
def test_an_index_of_another_format_is_rebuilt_equal(table: Path, damage):
    before = refresh(table)
    body = json.loads(file(table).read_text())
    file(table).write_text(json.dumps(damage(body)))

    assert read(table) == before


def test_bytes_that_are_no_text_are_rebuilt_over(table: Path):
    before = refresh(table)
    file(table).write_bytes(b"\xff\xfe\x00")

    assert read(table) == before


def test_another_reach_folds_anew(table: Path):
    refresh(table)
    wider = Shape(Grain.DAY, timedelta(hours=1), timedelta(0))

    check(index.read(str(table), str(table / "state"), wider))


def test_the_index_of_a_table_that_was_made_anew_is_not_believed(table: Path):
    refresh(table)
    shutil.rmtree(table / "_delta_log")
    assert read(table) == Coverage()

    for version in range(4):
        commit(table, version, live(version))
        coverage = read(table)
        assert coverage.version == version
        assert {label: each.rows for label, each in coverage.intervals.items()} == {D1: 2 * version + 2}


def test_the_index_outlives_a_cleaned_log(table: Path):
    refresh(table)
    commit(table, 3, live(2))
    for version in range(3):
        (table / "_delta_log" / f"{version:020d}.json").unlink()

    assert read(table).intervals[D1].rows == 6
    file(table).unlink()
    with pytest.raises(StateError):
        read(table)


@pytest.mark.parametrize("former", [False, True])
def test_what_upkeep_left_knows_what_code_that_looks_further_back_depends_on(table: Path, *, former: bool):
    """``former``: of what was left before event times ahead were noted, by the watermark and what is known."""
    at = int(datetime(2013, 1, 3, 12, tzinfo=UTC).timestamp())
    ahead = ((at, at + 600), (at + 5 * 86400, at + 5 * 86400 + 600))
    old = replace(
        live(2), stateful=True, watermark=at * 1000, touched=ahead, reached=("2013-01-03", "2013-01-08")
    )
    commit(table, 3, old)
    index.before_cleaning(str(table), str(table / "state"), SHAPE)
    cleaned = table / "state" / "cleaned.json"
    if former:
        body = json.loads(cleaned.read_text())
        del body["coverage"]["ahead"], body["coverage"]["stood"]
        cleaned.write_text(json.dumps(body | {"format": 3}))
    commit(table, 4, replace(old, batch=3, fingerprint="newer", added={}, touched=(), reached=()))
    for version in range(4):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    wider = Shape(Grain.DAY, timedelta(days=2), timedelta(0))

    found = index.read(str(table), str(table / "state"), wider).intervals

    both = {label for label, each in found.items() if each.writers.keys() == {"code", "newer"}}
    assert both == {f"2013-01-{day:02}" for day in (3, 4, 5, 8, 9, 10)}


def test_what_upkeep_left_of_a_stream_that_was_to_begin_anew_is_read_as_it_was_written_then():
    seed = Seed("planted", "q", 3, 0, D1, "state")
    body = asdict(Coverage(seed=seed)) | {
        "stood": {"last": "", "lived": {"after": "a", "made": "m"}, "code": "c"}
    }
    assert from_json(body).stood == (Stood("", "", D1, Lived("a", "m"), "c"),)
    assert from_json(body | {"stood": None}).stood == ()


def test_of_a_cleaned_log_what_only_code_that_looks_further_reaches_is_dirty_until_it_is_backfilled(
    table: Path,
):
    commit(table, 3, replace(live(2), added={D1: 1, "2013-01-05": 1}, touched=()))
    index.before_cleaning(str(table), str(table / "state"), SHAPE)
    for version in range(4):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    wider = Shape(Grain.DAY, timedelta(days=2), timedelta(0))
    commit(table, 4, Swap("p", "r", 0, "newer", 3, {}, {"2013-01-02": IntervalResult(0, "h", 0, 0)}))

    found = index.read(str(table), str(table / "state"), wider).intervals

    assert {label for label, each in found.items() if each.marks} == {
        f"2013-01-0{day}" for day in (3, 4, 6, 7)
    }
    assert found[D1].rows == 5
    assert not any(
        each.marks for each in index.read(str(table), str(table / "state"), SHAPE).intervals.values()
    )


def _many(path: str, count: int) -> None:
    for _ in range(count):
        index.refresh(path, f"{path}/state", SHAPE)


def test_writers_at_once_in_threads_and_processes_leave_it_whole(table: Path):
    expected = refresh(table)
    spawned = multiprocessing.get_context("spawn").Process(target=_many, args=(str(table), 25))
    spawned.start()
    threads = [threading.Thread(target=_many, args=(str(table), 25)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert index._load(str(table), file(table), SHAPE) == expected
    spawned.join()

    assert spawned.exitcode == 0
    assert [p.name for p in file(table).parent.iterdir()] == ["index.json"]
