"""Upkeep takes what nobody needs, and nothing that an undo, a reader or a resumed run may need. No Spark."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.errors import PlanError
from tidemill.execution.runs import RunFolder, list_runs
from tidemill.execution.upkeep import Upkeep, maintain
from tidemill.intervals import Grain
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import Undo
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.stats import read_stats
from tidemill.sinks.table import AppVersion, LogTable
from tidemill.view import View

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
    publish(table, Change(tuple(add), tuple(remove), Undo("p", app, 0, {}), AppVersion(app, 1)))
    if table._checkpointing is not None:
        table._checkpointing.join(timeout=60)


def kept(pipeline: Pipeline) -> set[str]:
    return {folder.name for folder in Path(pipeline.table.path).glob("part-*")}


def run(pipeline: Pipeline, *, dry_run: bool = False, retention_hours: int = 168) -> Upkeep:
    return maintain(View(pipeline, "f", Coverage(), ()), retention_hours=retention_hours, dry_run=dry_run)


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
    before = {p for p in Path(pipeline.table.path).rglob("*") if "_tidemill" not in p.parts}

    assert run(pipeline, dry_run=True).orphans == 1

    assert {p for p in Path(pipeline.table.path).rglob("*") if "_tidemill" not in p.parts} == before


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


def test_a_retention_under_a_day_is_refused(pipeline: Pipeline):
    with pytest.raises(PlanError):
        run(pipeline, retention_hours=23)


def test_a_table_that_is_not_there_is_refused(pipeline: Pipeline):
    with pytest.raises(PlanError):
        run(pipeline)
