"""What publishing rests on: deltalake's transactions, over real tables and files, without Spark."""

from __future__ import annotations

import itertools
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from tidemill.errors import CommitConflict, LeaseHeld, StateError
from tidemill.execution.runs import Manifest
from tidemill.execution.standing import came_to
from tidemill.execution.swap import swap_chunk, undo_chunk
from tidemill.execution.undo import newest_first
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.facts import Fact, IntervalResult, Swap, Undo
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import ATTEMPTS, Change, Published, publish
from tidemill.sinks.stats import read_stats
from tidemill.sinks.table import CHECKPOINT_EVERY, AppVersion, LogTable, Raced

SCHEMA: dict[str, Any] = {
    "type": "struct",
    "fields": [
        {"name": "id", "type": "long", "nullable": True, "metadata": {}},
        {"name": "event_date", "type": "date", "nullable": True, "metadata": {}},
    ],
}
D1, D2 = "2013-01-05", "2013-01-06"
NUMBERS = itertools.count()


def fact() -> Fact:
    return Undo("p", "r", 0, {})


def make(path: Path) -> LogTable:
    return LogTable.create(str(path), Grain.DAY, SCHEMA)


def reopened(table: LogTable) -> LogTable:
    return LogTable(table.path, Grain.DAY)


def staged(table: str, ids: Iterable[int], label: str = D1, *, name: str | None = None) -> DataFile:
    """A parquet file under the table's root that no commit names yet."""
    path = f"part-{name or next(NUMBERS)}/event_date={label}/part-0.parquet"
    whole = Path(table, path)
    whole.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": pa.array(list(ids), pa.int64())}), whole)
    rows, stats = read_stats(str(whole), SCHEMA)
    return DataFile(path, label, whole.stat().st_size, rows, 1_357_391_700_000, stats)


def change(
    add: Iterable[DataFile] = (),
    remove: Iterable[DataFile] = (),
    app: str = "a",
    version: int = 1,
    **more: Any,
) -> Change:
    return Change(tuple(add), tuple(remove), fact(), AppVersion(app, version), **more)


def ids(table: LogTable) -> list[int]:
    return sorted(DeltaTable(table.path).to_pyarrow_table().column("id").to_pylist())


def appended(table: LogTable, values: Iterable[int], app: str, label: str = D1) -> DataFile:
    file = staged(table.path, values, label)
    assert publish(table, change([file], app=app)) == Published(already=False, retries=0)
    return file


# ---- one commit, once


def test_a_change_is_published_with_its_fact_and_its_files(tmp_path: Path):
    table = make(tmp_path / "t")
    file = staged(table.path, [1, 2])

    publish(table, change([file]))

    assert ids(table) == [1, 2]
    (commit,) = log.commits_after(table.path, 0, Grain.DAY)
    assert (commit.version, commit.fact) == (1, fact())
    (live,) = table.live_files().values() if table.refresh() is None else ()
    assert (live.path, live.label, live.rows, live.size, live.modified) == (
        file.path, D1, 2, file.size, file.modified,
    )  # fmt: skip


def test_a_change_that_the_log_holds_is_done(tmp_path: Path):
    table = make(tmp_path / "t")
    file = staged(table.path, [1])

    assert publish(table, change([file], version=7)) == Published(already=False, retries=0)
    for version in (7, 6):
        assert publish(reopened(table), change([file], version=version)) == Published(already=True, retries=0)

    assert ids(table) == [1]
    assert DeltaTable(table.path).version() == 1


def test_a_stale_look_at_the_table_does_not_publish_twice(tmp_path: Path):
    table = make(tmp_path / "t")
    stale = reopened(table)
    appended(table, [1], "a")
    again = staged(table.path, [1])

    with pytest.raises(Raced):
        stale.commit([again], [], "{}", AppVersion("a", 1), 0)
    assert publish(stale, change([again], app="a")).already

    assert ids(table) == [1]


def test_a_stale_look_never_commits_even_where_nothing_conflicts(tmp_path: Path):
    # What the guard and the files were checked against is what is committed on.
    table = make(tmp_path / "t")
    stale = reopened(table)
    appended(table, [1], "a")

    with pytest.raises(Raced):
        stale.commit([staged(table.path, [2])], [], "{}", AppVersion("b", 1), 0)

    stale.refresh()
    stale.commit([staged(table.path, [2])], [], "{}", AppVersion("b", 1), 0)
    assert ids(table) == [1, 2]


def test_app_transactions_of_others_do_not_count(tmp_path: Path):
    table = make(tmp_path / "t")
    appended(table, [1], "a")
    appended(table, [2], "b")
    table.refresh()

    assert (table.app_version("a"), table.app_version("b"), table.app_version("c")) == (1, 1, None)


def test_a_commit_may_carry_no_file(tmp_path: Path):
    table = make(tmp_path / "t")
    appended(table, [1], "a")

    publish(table, change(app="b"))

    assert (DeltaTable(table.path).version(), ids(table)) == (2, [1])


# ---- files replaced


def test_a_swap_replaces_the_files_it_names_and_no_others(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1, 2], "a")
    appended(table, [9], "b", D2)

    publish(table, change([staged(table.path, [1, 2, 3])], [old], "swap"))

    assert ids(table) == [1, 2, 3, 9]


def test_a_swap_keeps_what_others_appended_meanwhile(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1], "a")
    looked = reopened(table)
    appended(table, [5], "b")  # to the same interval

    published = publish(looked, change([staged(table.path, [1, 2])], [old], "swap"))

    assert published == Published(already=False, retries=0)
    assert ids(table) == [1, 2, 5]


def test_a_swap_of_files_that_another_swap_replaced_is_refused_and_publishes_nothing(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1], "a")
    publish(table, change([staged(table.path, [2])], [old], "first"))

    with pytest.raises(CommitConflict) as refused:
        publish(table, change([staged(table.path, [3])], [old], "second"))

    assert refused.value.params == {"table": table.path, "files": 1}
    assert ids(table) == [2]
    assert (DeltaTable(table.path).version(), table.app_version("second")) == (2, None)


def test_a_swap_is_refused_when_one_of_many_files_is_gone(tmp_path: Path):
    table = make(tmp_path / "t")
    one, two = appended(table, [1], "a"), appended(table, [2], "b")
    publish(table, change([staged(table.path, [7])], [two], "first"))

    with pytest.raises(CommitConflict):
        publish(table, change([staged(table.path, [8])], [one, two], "second"))

    assert ids(table) == [1, 7]


def test_a_compaction_between_look_and_swap_refuses_the_swap(tmp_path: Path):
    table = make(tmp_path / "t")
    files = [appended(table, [number], str(number)) for number in range(4)]
    DeltaTable(table.path).optimize.compact()

    with pytest.raises(CommitConflict):
        publish(table, change([staged(table.path, [8])], files, "swap"))

    assert ids(table) == [0, 1, 2, 3]


def test_files_may_be_put_back(tmp_path: Path):
    table = make(tmp_path / "t")
    old, new = appended(table, [1], "a"), staged(table.path, [2])
    publish(table, change([new], [old], "swap", 1))

    publish(table, change([old], [new], "swap", 2))

    assert ids(table) == [1]


def test_files_whose_paths_the_log_has_to_encode_are_found_and_replaced(tmp_path: Path):
    # As compaction names the files of hours: event_hour=2013-01-05%2013%3A00...
    path = str(tmp_path / "t")
    rows = {"id": [1, 2], "event_hour": [datetime(2013, 1, 5, 13, tzinfo=UTC)] * 2}
    write_deltalake(path, pa.table(rows), partition_by=["event_hour"])
    table = LogTable(path, Grain.HOUR)
    (file,) = table.live_files().values()
    assert (file.label, file.rows) == ("2013-01-05T13", 2)
    assert "%" in file.path
    assert table.lost([file]) == []

    publish(table, change([], [file]))
    assert ids(table) == []
    publish(table, change([file], app="undo"))
    assert ids(table) == [1, 2]


def test_a_whole_interval_is_not_replaced_when_a_file_came_to_it(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1], "a")
    appended(table, [5], "b")
    appended(table, [9], "c", D2)

    with pytest.raises(CommitConflict):
        publish(table, change([staged(table.path, [2])], [old], "merge", whole=frozenset({D1})))
    with pytest.raises(CommitConflict):
        publish(table, change([staged(table.path, [2])], app="merge", whole=frozenset({D2})))

    assert ids(table) == [1, 5, 9]


def test_a_whole_interval_is_replaced_when_every_file_of_it_is_named(tmp_path: Path):
    table = make(tmp_path / "t")
    files = [appended(table, [1], "a"), appended(table, [5], "b")]
    appended(table, [9], "c", D2)

    publish(table, change([staged(table.path, [2])], files, "merge", whole=frozenset({D1})))

    assert ids(table) == [2, 9]


def test_the_files_of_an_earlier_version_are_known(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1], "a")
    publish(table, change([staged(table.path, [2])], [old], "swap"))
    table.refresh()

    assert table.files_at(1).keys() == {old.path}
    assert old.path not in table.files_at(2)
    assert table.files_at(0) == {}


# ---- guards and races


def refuse() -> None:
    raise LeaseHeld("lost")


def test_a_guard_that_refuses_publishes_nothing(tmp_path: Path):
    table = make(tmp_path / "t")

    with pytest.raises(LeaseHeld):
        publish(table, change([staged(table.path, [1])]), refuse)

    assert (DeltaTable(table.path).version(), ids(table)) == (0, [])


def test_a_guard_is_not_asked_about_what_is_done(tmp_path: Path):
    table = make(tmp_path / "t")
    appended(table, [1], "a")

    assert publish(table, change(app="a"), refuse).already


def interloper(table: LogTable, times: int) -> Callable[[], None]:
    """A guard during which someone else commits, the first ``times`` times that it is asked."""
    other, calls = reopened(table), itertools.count()

    def guard() -> None:
        number = next(calls)
        if number < times:
            other.refresh()
            other.commit([], [], "{}", AppVersion(f"other-{number}", 1), 0)

    return guard


@pytest.mark.parametrize("times", [0, 1, 3])
def test_lost_races_are_counted_and_run_again(tmp_path: Path, times: int):
    table = make(tmp_path / "t")

    published = publish(table, change([staged(table.path, [1])]), interloper(table, times))

    assert published == Published(already=False, retries=times)
    assert ids(table) == [1]


def test_after_too_many_lost_races_nothing_is_published(tmp_path: Path):
    table = make(tmp_path / "t")

    with pytest.raises(CommitConflict):
        publish(table, change([staged(table.path, [1])]), interloper(table, ATTEMPTS))

    assert ids(table) == []
    assert DeltaTable(table.path).version() == ATTEMPTS


def test_the_race_lost_to_ones_own_zombie_ends_with_done(tmp_path: Path):
    table = make(tmp_path / "t")
    file = staged(table.path, [1])
    zombie = reopened(table)

    published = publish(
        table, change([file], app="a"), lambda: zombie.commit([file], [], "{}", AppVersion("a", 1), 0)
    )

    assert published == Published(already=True, retries=1)
    assert ids(table) == [1]


def test_a_table_of_columns_that_do_not_fit_is_no_race(tmp_path: Path):
    table = make(tmp_path / "t")
    path = staged(table.path, [1])
    broken = DataFile(path.path, D1, path.size, path.rows, path.modified, stats="{not json")

    try:
        publish(table, change([broken]))
    except StateError:
        assert ids(table) == []
    else:
        assert ids(table) == [1]


def _append(path: str, writer: int, count: int) -> None:
    table = LogTable(path, Grain.DAY)
    for number in range(count):
        label = (D1, D2)[number % 2]
        file = staged(path, [writer * 1000 + number], label, name=f"{writer}-{number}")
        publish(table, change([file], app=f"writer-{writer}", version=number))


@pytest.mark.slow
def test_writers_at_once_and_a_swapper_lose_and_double_nothing(tmp_path: Path):
    table = make(tmp_path / "t")
    spawn = multiprocessing.get_context("spawn")
    count = 40
    writers = [spawn.Process(target=_append, args=(table.path, n, count)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    swaps = 0
    while any(writer.is_alive() for writer in writers) and swaps < 300:
        table.refresh()
        stand = [file for file in table.live_files().values() if file.label == D1]
        if len(stand) < 4:
            continue
        # Only this process swaps: what it has seen stays until it replaces it itself.
        rows = [
            value for file in stand for value in pq.read_table(Path(table.path, file.path))["id"].to_pylist()
        ]
        publish(table, change([staged(table.path, rows, name=f"swap-{swaps}")], stand, "swapper", swaps))
        swaps += 1
    for writer in writers:
        writer.join(timeout=120)

    assert [writer.exitcode for writer in writers] == [0, 0]
    assert swaps > 0
    assert Counter(ids(table)) == Counter(w * 1000 + n for w in (1, 2) for n in range(count))


# ---- checkpoints


def test_a_checkpoint_is_written_beside_and_holds_the_table(tmp_path: Path):
    table = make(tmp_path / "t")
    count = CHECKPOINT_EVERY + 1
    for number in range(count):
        appended(table, [number], f"a{number}")
    assert table._checkpointing is not None
    table._checkpointing.join(timeout=60)

    folder = Path(table.path, "_delta_log")
    newest = max(int(p.name.split(".")[0]) for p in folder.glob("*.checkpoint.parquet"))
    assert newest >= CHECKPOINT_EVERY
    for version in range(newest):
        (folder / f"{version:020d}.json").unlink()
    again = reopened(table)
    assert ids(again) == list(range(count))
    assert (again.app_version("a0"), len(again.live_files())) == (1, count)


def test_a_checkpoint_that_fails_fails_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    from tidemill.sinks import table as module

    module.checkpoint(str(tmp_path / "no table"), 0)

    assert "no log checkpoint" in caplog.text


def test_the_table_keeps_its_log(tmp_path: Path):
    table = make(tmp_path / "t")

    configuration = DeltaTable(table.path).metadata().configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"


def test_a_table_is_made_once(tmp_path: Path):
    appended(make(tmp_path / "t"), [1], "a")

    assert ids(make(tmp_path / "t")) == [1]
    assert LogTable.open(str(tmp_path / "none"), Grain.DAY) is None


# ---- swaps and undos of runs, at the ledger's side of the seam


def pipeline(path: str) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "p",
            "source": {"delta": {"path": "in"}},
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": path}},
        }
    )


def manifest(
    run: str, pin: int, stage: Iterable[DataFile], replaced: Iterable[DataFile], **more: Any
) -> Manifest:
    new, old = tuple(stage), tuple(replaced)
    rows, before = sum(f.rows for f in new), sum(f.rows for f in old)
    results = {D1: IntervalResult(rows, "h", rows if new else 0, before if old else 0)}
    return Manifest(run, 0, "f", pin, {}, more.pop("provisional", False), (D1,), new, old, results, **more)


def test_a_run_is_published_once_undone_once_and_done_again(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1], "a")
    run = manifest("r1", 1, [staged(table.path, [1, 2])], [old])
    p = pipeline(table.path)

    assert not undo_chunk(p, table, run)
    assert not swap_chunk(p, table, run).already
    assert swap_chunk(p, reopened(table), run).already
    assert ids(table) == [1, 2]
    assert undo_chunk(p, table, run)
    assert not undo_chunk(p, table, run)
    assert ids(table) == [1]
    assert not swap_chunk(p, table, run).already
    assert ids(table) == [1, 2]

    kinds = [type(commit.fact) for commit in log.commits_after(table.path, 1, Grain.DAY)]
    assert kinds == [Swap, Undo, Swap]


def test_rows_that_came_after_a_swap_outlast_its_undo(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1], "a")
    run = manifest("r1", 1, [staged(table.path, [7])], [old])
    swap_chunk(pipeline(table.path), table, run)
    appended(table, [5], "b")

    undo_chunk(pipeline(table.path), table, run)

    assert ids(table) == [1, 5]


def test_two_runs_that_found_an_interval_empty_do_not_both_fill_it(tmp_path: Path):
    # Neither replaces a file, so no file can tell the second that the first has been there.
    table = make(tmp_path / "t")
    one = manifest("r1", 0, [staged(table.path, [1])], [])
    two = manifest("r2", 0, [staged(table.path, [1])], [])
    swap_chunk(pipeline(table.path), table, one)

    with pytest.raises(CommitConflict) as refused:
        swap_chunk(pipeline(table.path), table, two)

    assert "r1" in refused.value.message
    assert ids(table) == [1]


def test_an_interval_that_was_filled_and_emptied_again_may_be_filled(tmp_path: Path):
    table = make(tmp_path / "t")
    one = manifest("r1", 0, [staged(table.path, [1])], [])
    two = manifest("r2", 0, [staged(table.path, [1])], [])
    swap_chunk(pipeline(table.path), table, one)
    undo_chunk(pipeline(table.path), table, one)

    swap_chunk(pipeline(table.path), table, two)

    assert ids(table) == [1]


def test_live_rows_that_came_meanwhile_do_not_stop_a_swap_of_an_empty_interval(tmp_path: Path):
    table = make(tmp_path / "t")
    run = manifest("r1", 0, [staged(table.path, [1])], [])
    appended(table, [5], "live")

    swap_chunk(pipeline(table.path), table, run)

    assert ids(table) == [1, 5]


def test_a_run_that_emptied_an_interval_is_not_undone_below_one_that_filled_it_again(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1], "a")
    emptied = manifest("r1", 1, [], [old])
    swap_chunk(pipeline(table.path), table, emptied)
    filled = manifest("r2", 2, [staged(table.path, [1])], [])
    swap_chunk(pipeline(table.path), table, filled)

    with pytest.raises(CommitConflict) as refused:
        undo_chunk(pipeline(table.path), table, emptied)
    assert "r2" in refused.value.next_step

    undo_chunk(pipeline(table.path), table, filled)
    undo_chunk(pipeline(table.path), table, emptied)
    assert ids(table) == [1]


def test_an_interval_to_which_others_came_since_is_known(tmp_path: Path):
    table = make(tmp_path / "t")
    p = pipeline(table.path)
    older = manifest("r0", 0, [staged(table.path, [1])], [])
    swap_chunk(p, table, older)
    mine = manifest("r1", 1, [staged(table.path, [2])], older.staged)
    other = manifest("r2", 1, [staged(table.path, [3])], older.staged)
    found = []

    def then(do: Callable[..., object], run: Manifest) -> None:
        do(p, table, run)
        found.append(sorted(came_to(p, mine)))

    # One that came and went leaves what it found; so the first that died, if it did, is on top again.
    then(swap_chunk, other)
    then(undo_chunk, other)
    # What was before is not what is put back.
    then(swap_chunk, mine)
    then(undo_chunk, mine)
    then(swap_chunk, other)
    then(undo_chunk, other)
    # One that was there at the pin and is not any more.
    then(undo_chunk, older)
    assert found == [[D1], [], [], [], [D1], [], [D1]]
    for version in range(2):
        Path(table.path, "_delta_log", f"{version:020d}.json").unlink()
    assert came_to(p, manifest("r1", 0, [], [])) == {D1}


def test_a_guard_is_asked_before_a_swap_and_before_an_undo(tmp_path: Path):
    table = make(tmp_path / "t")
    run = manifest("r1", 0, [staged(table.path, [1])], [])

    with pytest.raises(LeaseHeld):
        swap_chunk(pipeline(table.path), table, run, refuse)
    swap_chunk(pipeline(table.path), table, run)
    with pytest.raises(LeaseHeld):
        undo_chunk(pipeline(table.path), table, run, refuse)

    assert ids(table) == [1]


def test_a_run_older_than_the_log_is_planned_again(tmp_path: Path):
    table = make(tmp_path / "t")
    old = appended(table, [1], "a")
    appended(table, [5], "b")
    run = manifest("r1", 0, [staged(table.path, [2])], [old])
    DeltaTable(table.path).create_checkpoint()
    for version in range(2):
        Path(table.path, "_delta_log", f"{version:020d}.json").unlink()

    with pytest.raises(CommitConflict):
        swap_chunk(pipeline(table.path), reopened(table), run)


def test_runs_are_taken_back_from_the_top():
    assert newest_first([["a", "c"], ["b", "c"], [], ["a", "b"]]) == ["c", "b", "a"]
    assert newest_first([[], []]) == []


def test_statistics_are_in_the_log_as_they_were_measured(tmp_path: Path):
    table = make(tmp_path / "t")
    file = appended(table, [3, 5], "a")

    lines = Path(table.path, "_delta_log", f"{1:020d}.json").read_text().splitlines()
    (add,) = [json.loads(line)["add"] for line in lines if line.startswith('{"add"')]
    assert json.loads(add["stats"]) == {
        "numRecords": 2, "minValues": {"id": 3}, "maxValues": {"id": 5}, "nullCount": {"id": 0},
    }  # fmt: skip
    assert (add["partitionValues"], add["path"], add["dataChange"]) == ({"event_date": D1}, file.path, True)


def test_a_file_that_an_undo_puts_back_is_skipped_by_readers_as_before(tmp_path: Path):
    table = make(tmp_path / "t")
    appended(table, [3, 8], "a")
    table.refresh()
    (old,) = table.live_files().values()
    run = manifest("r1", 1, [staged(table.path, [7])], [old])
    assert old.stats is None
    swap_chunk(pipeline(table.path), table, run)
    undo_chunk(pipeline(table.path), table, run)

    actions = DeltaTable(table.path).get_add_actions(flatten=True)
    assert (actions["min.id"][0].as_py(), actions["max.id"][0].as_py()) == (3, 8)
