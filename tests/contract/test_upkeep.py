"""Upkeep takes what nobody needs, and nothing that an undo, a reader or a resumed run may need. No Spark."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from tidemill.errors import PlanError
from tidemill.execution.runs import RunFolder, list_runs
from tidemill.execution.upkeep import Upkeep, maintain
from tidemill.intervals import Grain
from tidemill.ledger import index, log
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import Undo
from tidemill.model import Pipeline
from tidemill.protocol import Point, listening
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.stats import read_stats
from tidemill.sinks.table import AppVersion, LogTable
from tidemill.view import View, shape_of

SCHEMA = {
    "type": "struct",
    "fields": [
        {"name": "id", "type": "long", "nullable": True, "metadata": {}},
        {"name": "event_date", "type": "date", "nullable": True, "metadata": {}},
    ],
}
DAY = "2013-01-05"
LONG_AGO = 1_357_391_700  # 2013


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "p",
            "source": {"delta": {"path": "in"}},
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": str(tmp_path / "t")}},
        }
    )


def staged(pipeline: Pipeline, name: str, *ids: int, old: bool = True) -> DataFile:
    folder = Path(pipeline.table.path, f"part-{name}", f"event_date={DAY}")
    folder.mkdir(parents=True)
    path = folder / "part-0.parquet"
    pq.write_table(pa.table({"id": pa.array(list(ids), pa.int64())}), path)
    rows, stats = read_stats(str(path), SCHEMA)
    if old:
        for each in (path, folder, folder.parent):
            os.utime(each, (LONG_AGO, LONG_AGO))
    relative = str(path.relative_to(pipeline.table.path))
    return DataFile(relative, DAY, path.stat().st_size, rows, LONG_AGO * 1000, stats)


def table(pipeline: Pipeline) -> LogTable:
    return LogTable.create(pipeline.table.path, Grain.DAY, SCHEMA)


def published(table: LogTable, app: str, add: list[DataFile], remove: list[DataFile]) -> None:
    publish(
        table,
        Change(
            tuple(add),
            tuple(remove),
            Undo("p", app, 0, {file.label: file.rows for file in add}),
            AppVersion(app, 1),
        ),
    )
    if table._checkpointing is not None:
        table._checkpointing.join(timeout=60)


def kept(pipeline: Pipeline) -> set[str]:
    return {folder.name for folder in Path(pipeline.table.path).glob("part-*")}


def run(
    pipeline: Pipeline,
    *,
    dry_run: bool = False,
    retention_hours: int = 168,
    log_hours: int = 720,
    below: dict[str, int] | None = None,
    below_beside: dict[str, dict[str, int]] | None = None,
) -> Upkeep:
    view = View(pipeline, "f", Coverage(), ())
    return maintain(
        view,
        retention_hours=retention_hours,
        log_hours=log_hours,
        below=below or {},
        below_beside=below_beside or {},
        now=datetime.now(UTC),
        dry_run=dry_run,
    )


def test_what_a_swap_has_just_replaced_stays_however_old_its_files_are(pipeline: Pipeline):
    mine = table(pipeline)
    before, after = staged(pipeline, "before", 1), staged(pipeline, "after", 2)
    published(mine, "a", [before], [])
    published(mine, "swap", [after], [before])

    assert run(pipeline).orphans == 0

    assert kept(pipeline) == {"part-before", "part-after"}
    mine.refresh()
    assert mine.lost([before]) == []


def test_files_that_no_commit_names_go_when_they_are_old(pipeline: Pipeline):
    published(table(pipeline), "a", [staged(pipeline, "live", 1)], [])
    staged(pipeline, "crashed", 2)
    staged(pipeline, "at-work", 3, old=False)

    assert run(pipeline).orphans == 1

    assert kept(pipeline) == {"part-live", "part-at-work"}


def test_a_dry_run_says_what_would_go_and_touches_nothing(pipeline: Pipeline):
    published(table(pipeline), "a", [staged(pipeline, "live", 1)], [])
    staged(pipeline, "crashed", 2)
    before = set(Path(pipeline.table.path).rglob("*"))

    assert run(pipeline, dry_run=True).orphans == 1

    assert set(Path(pipeline.table.path).rglob("*")) == before


def test_many_small_files_become_one_with_the_same_rows(pipeline: Pipeline):
    mine = table(pipeline)
    for number in range(9):
        published(mine, f"a{number}", [staged(pipeline, str(number), number)], [])

    done = run(pipeline)

    assert (done.compacted, done.files_before, done.files_after) == ((DAY,), 9, 1)
    mine.refresh()
    (file,) = mine.live_files().values()
    rows = pq.read_table(Path(pipeline.table.path, file.path))["id"].to_pylist()
    assert (sorted(rows), file.rows) == (list(range(9)), 9)
    assert len(kept(pipeline)) == 9  # within the retention


def test_old_runs_are_forgotten_and_new_ones_kept(pipeline: Pipeline):
    published(table(pipeline), "a", [staged(pipeline, "live", 1)], [])
    for name in ("old", "new"):
        RunFolder(pipeline.table.state_path, name).save_plan({})
    folder = RunFolder(pipeline.table.state_path, "old").path
    for path in (folder / "plan.json", folder):
        os.utime(path, (LONG_AGO, LONG_AGO))

    assert run(pipeline).runs_forgotten == ("old",)
    assert list_runs(pipeline.table.state_path) == ["new"]


def beside(path: str, text: str, *, mode: Literal["append", "overwrite"], version: int) -> None:
    """A commit to a table beside, made long ago."""
    write_deltalake(path, pa.table({"record": [text]}), mode=mode)
    commit = log.log_folder(path) / f"{version:020d}.json"
    lines = [json.loads(line) for line in commit.read_text().splitlines()]
    for line in lines:
        if "remove" in line:
            line["remove"]["deletionTimestamp"] = LONG_AGO * 1000
    commit.write_text("\n".join(map(json.dumps, lines)))
    for each in (commit, *Path(path).glob("*.parquet")):
        os.utime(each, (LONG_AGO + version, LONG_AGO + version))


def said(path: str, text: str) -> list[str]:
    """The files of a table, log and all, in which a text is, in their bytes or their rows."""
    found = []
    for each in Path(path).rglob("*"):
        if each.is_file():
            held = repr(pq.read_table(each).to_pylist()).encode() if each.suffix == ".parquet" else b""
            if text.encode() in held + each.read_bytes():
                found.append(each.name)
    return found


@pytest.mark.parametrize("which", ["quarantine_path", "unsent_path"])
def test_of_a_row_that_was_taken_out_of_a_table_beside_nothing_is_left(pipeline: Pipeline, which: str):
    published(table(pipeline), "a", [staged(pipeline, "live", 1)], [])
    path = getattr(pipeline, which)
    beside(path, "ada@x", mode="append", version=0)
    beside(path, "bob@x", mode="overwrite", version=1)
    pq.write_table(pa.table({"record": ["ada@x"]}), Path(path, "crashed.parquet"))
    os.utime(Path(path, "crashed.parquet"), (LONG_AGO, LONG_AGO))
    assert len(said(path, "ada@x")) == 3  # two files, and the statistics of the first one's commit
    before = set(Path(path).rglob("*"))

    assert run(pipeline, dry_run=True).beside.vacuumed == 2
    assert set(Path(path).rglob("*")) == before
    assert run(pipeline, below_beside={path: {"reader": 0}}).beside.vacuumed == 2
    assert len(said(path, "ada@x")) == 1  # the commit that the reader has yet to read
    run(pipeline)
    for each in log.log_folder(path).iterdir():  # a month goes by
        os.utime(each, (LONG_AGO, LONG_AGO))
    run(pipeline)

    assert said(path, "ada@x") == []
    assert DeltaTable(path).to_pyarrow_table()["record"].to_pylist() == ["bob@x"]


def test_what_was_taken_out_just_now_stays_for_undo(pipeline: Pipeline):
    published(table(pipeline), "a", [staged(pipeline, "live", 1)], [])
    for text in ("ada@x", "bob@x"):
        write_deltalake(pipeline.quarantine_path, pa.table({"record": [text]}), mode="overwrite")

    done = run(pipeline)

    assert (done.beside.vacuumed, done.beside.log_cleaned) == (0, 0)
    assert DeltaTable(pipeline.quarantine_path, version=0).to_pyarrow_table()["record"].to_pylist() == [
        "ada@x"
    ]


def test_a_retention_under_a_day_is_refused(pipeline: Pipeline):
    with pytest.raises(PlanError):
        run(pipeline, retention_hours=23)


def test_a_table_that_is_not_there_is_refused(pipeline: Pipeline):
    with pytest.raises(PlanError):
        run(pipeline)


def with_old_log(pipeline: Pipeline, commits: int = 250, old: int = 220) -> LogTable:
    """A table of that many commits, of which the first ``old`` are out of any retention; checkpoints every hundred."""
    mine = table(pipeline)
    for number in range(commits):
        published(mine, f"a{number}", [staged(pipeline, str(number), number)], [])
    for version in range(old):
        os.utime(log.log_folder(mine.path) / f"{version:020d}.json", (LONG_AGO + version, LONG_AGO + version))
    return mine


def versions(mine: LogTable) -> list[int]:
    return sorted(int(path.stem) for path in log.log_folder(mine.path).glob("*.json") if path.stem.isdigit())


def test_the_log_is_cleaned_up_to_the_checkpoint_below_the_retention_and_the_index_can_be_made_again(
    pipeline: Pipeline,
):
    mine = with_old_log(pipeline)
    shape, state = shape_of(pipeline), pipeline.table.state_path
    whole = index.read(mine.path, state, shape)
    assert whole.intervals[DAY].rows == 250

    assert run(pipeline, dry_run=True).log_cleaned == run(pipeline).log_cleaned > 200

    assert versions(mine)[0] == 200
    (Path(state) / "index.json").unlink()
    assert index.refresh(mine.path, state, shape).intervals == whole.intervals
    (Path(state) / "index.json").unlink()
    # What code that looks further ahead would give besides was never looked at.
    further = index.refresh(mine.path, state, replace(shape, lookahead=timedelta(hours=1))).intervals
    assert {label: further[label] for label in whole.intervals} == whole.intervals
    assert all(further[label].marks for label in further.keys() - whole.intervals.keys())
    for version in (219, 230, 250):
        assert len(DeltaTable(mine.path, version=version).file_uris()) == version
    published(mine, "later", [staged(pipeline, "later", 1)], [])
    assert len(DeltaTable(mine.path).file_uris()) == 2  # what was compacted, and the later one


def test_the_log_stays_without_gap_whenever_its_cleaning_is_cut_off(pipeline: Pipeline):
    mine = with_old_log(pipeline, 220, 210)
    seen = 0

    class Cut(Exception):
        pass

    def cut(point: Point) -> None:
        nonlocal seen
        seen += point is Point.LOG_FILE_CLEANED
        if seen == 150:
            raise Cut

    with pytest.raises(Cut), listening(cut):
        run(pipeline)
    left = versions(mine)
    assert left == list(range(left[0], 222))
    assert left[0] > 0
    run(pipeline)
    assert versions(mine)[0] == 200
    assert len(DeltaTable(mine.path).file_uris()) == 1


def test_commits_that_a_stream_below_has_yet_to_read_stay(pipeline: Pipeline):
    mine = with_old_log(pipeline)

    done = run(pipeline, below={"behind": 120, "ahead": 240})

    assert done.log_kept_for == ("behind",)
    assert versions(mine)[0] == 100
    assert run(pipeline, below={"behind": 0}).log_cleaned == 0
