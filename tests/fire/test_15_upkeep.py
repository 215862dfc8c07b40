"""Row 15: upkeep beside slow readers, runs that can be undone, and runs that are staged. It takes nothing they need."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from bench import status
from tests.fire.matrix import Tally
from tests.fire.mill import Mill
from tests.profile import FULL
from tidemill import Engine, PlanError
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Point

pytestmark = [pytest.mark.row(15), pytest.mark.timeout(900)]
STALE = Request(states=frozenset({State.STALE}))
DAY, TEN_DAYS = 86_400, 10 * 86_400
FORTY_DAYS = 40 * DAY
COMMITS = 10_000 if FULL else 600
POINTS = (Point.INDEX_REFRESHED, Point.COMPACTED, Point.LOG_CHECKPOINTED, Point.VACUUMED)


def age(folder: Path, seconds: int) -> None:
    """Make everything under a table's folder older, also what the log says of when it was removed."""
    for path in (folder / "_delta_log").glob("*.json"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if "remove" in line:
                line["remove"]["deletionTimestamp"] -= seconds * 1000
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    for path in [folder, *folder.rglob("*")]:
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def read(world: Mill, version: int) -> list[dict[str, object]]:
    """The rows at a version, as a reader that took its time sees them."""
    table = DeltaTable(str(world.folder / "data/readings"), version=version)
    return sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row["id"])


def upkeep_beside(world: Mill) -> None:
    """Upkeep comes after a swap and a staging, a day after all that they came from was written."""
    folder = world.folder / "data/readings"
    world.arrive(8)
    world.run()
    age(folder, TEN_DAYS)
    before = world.versions()["readings"]
    slow = read(world, before)
    world.use(2)
    swapped = world.engine.backfill("readings", STALE).run
    world.use(3)
    staged = world.engine.backfill("readings", STALE, stage_only=True).run
    world.engine.maintain("readings", retention_hours=24)
    world.check()
    try:
        assert read(world, before) == slow
    except FileNotFoundError as error:
        raise AssertionError(f"a slow reader lost its files: {error}") from error
    world.engine.publish(staged, force=True, why="other code is meant to change rows")
    world.check(whole=True)
    world.engine.undo(staged)
    world.use(2)
    world.check(whole=True)
    world.engine.undo(swapped)
    world.use(1)
    world.check()
    world.settle()


def test_what_readers_undo_and_publish_need_stays(mill: Callable[..., Mill]) -> None:
    upkeep_beside(mill(names=("readings",)))


def test_what_a_long_run_staged_first_stays_until_the_run_is_forgotten(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",))
    world.arrive(8)
    world.run()
    world.use(2)
    run = world.engine.backfill("readings", STALE, stage_only=True).run
    age(world.folder / "data/readings", TEN_DAYS)
    last = max((world.folder / f"data/readings/_tidemill/runs/{run}").glob("chunk-*"))
    last.touch()
    assert world.engine.maintain("readings", retention_hours=24).orphans == 0
    world.engine.publish(run)
    world.check(whole=True)


def test_what_a_run_would_replace_is_not_compacted(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",))
    world.arrive(12, spread=timedelta(0))
    world.pass_time()
    world.run()
    crowded = world.engine.maintain("readings", dry_run=True).compacted
    assert crowded
    world.use(2)
    run = world.engine.backfill("readings", STALE, stage_only=True).run
    assert world.engine.maintain("readings").compacted == ()
    world.engine.publish(run)
    world.check(whole=True)
    world.engine.undo(run)
    assert world.engine.maintain("readings").compacted == ()
    folder = world.folder / "data/readings"
    age(folder, TEN_DAYS)
    assert world.engine.maintain("readings").compacted == crowded
    world.use(1)
    world.check(whole=True)


def test_a_run_whose_files_are_gone_is_refused_and_the_table_stays_whole(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",))
    world.arrive(4)
    world.run()
    world.use(2)
    run = world.engine.backfill("readings", STALE, stage_only=True).run
    live = {path.partition("/")[0] for path in DeltaTable(str(world.folder / "data/readings")).file_uris()}
    for folder in (world.folder / "data/readings").glob("part-*"):
        if not any(
            folder.name in path for path in DeltaTable(str(world.folder / "data/readings")).file_uris()
        ):
            shutil.rmtree(folder)
    assert live
    with pytest.raises(PlanError, match="are gone"):
        world.engine.publish(run)
    world.check()
    world.engine.resume(run)
    world.check(whole=True)


def test_what_is_older_than_the_retention_goes_and_undo_says_so(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",))
    world.arrive(4)
    world.run()
    world.use(2)
    swapped = world.engine.backfill("readings", STALE).run
    age(world.folder / "data/readings", TEN_DAYS)
    (world.folder / f"data/readings/_tidemill/runs/{swapped}/plan.json").touch()
    assert world.engine.maintain("readings", retention_hours=24).vacuumed > 0
    with pytest.raises(PlanError, match="vacuumed"):
        world.engine.undo(swapped)
    world.check(whole=True)


def test_a_crashed_upkeep_can_be_done_again(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",))
    world.arrive(9)
    world.run()
    world.use(2)
    world.engine.backfill("readings", STALE)
    world.pass_time()
    world.run()
    for point in POINTS:
        process = world.process("maintain", crash=point)
        world.killed(process)
        world.check()
    (world.folder / "data/readings/_delta_log/_commit_0.json.tmp").write_text("half a comm")
    age(world.folder / "data/readings", TEN_DAYS)
    world.engine.maintain("readings", retention_hours=24)
    assert not list((world.folder / "data/readings/_delta_log").glob("*.tmp"))
    world.arrive(1)
    world.settle()


def test_a_log_whose_cleaning_is_cut_off_says_all_that_it_said(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",))
    folder = world.folder / "data/readings"
    world.arrive(4)
    world.run()
    world.engine.maintain("readings")
    world.arrive(2)
    world.run()
    world.use(2)
    first = world.engine.backfill("readings", STALE).run
    before = world.engine.coverage("readings")
    age(folder, FORTY_DAYS)
    assert world.killed(world.process("maintain", crash=Point.LOG_FILE_CLEANED, crash_nth=3))
    (folder / "_tidemill/index.json").unlink()
    assert world.engine.coverage("readings").rows == before.rows
    assert world.engine.maintain("readings").log_cleaned
    assert log.first_version(str(folder)) != 0
    world.check(whole=True)
    with pytest.raises(PlanError):
        world.engine.undo(first)
    world.use(3)
    last = world.engine.backfill("readings", STALE).run
    (folder / "_tidemill/index.json").unlink()
    world.check(whole=True)
    world.engine.undo(last)
    world.use(2)
    world.check(whole=True)
    world.arrive(2, poison=1)
    world.settle()


def test_the_log_of_many_commits_is_cleaned_and_status_stays_fast(tmp_path: Path, tally: Tally) -> None:
    pipeline = status.made(tmp_path, COMMITS)
    table, state = pipeline.table.path, Path(pipeline.table.state_path)
    logs = log.log_folder(table)
    old = COMMITS * 9 // 10
    for version in range(old):
        then = (logs / f"{version:020d}.json").stat().st_mtime - FORTY_DAYS
        os.utime(logs / f"{version:020d}.json", (then, then))
    abandoned = Path(table, "part-of-a-run-that-died/event_date=2024-03-01")
    abandoned.mkdir(parents=True)
    (abandoned / "part-0.parquet").write_text("staged, and never named")
    for path in (abandoned, abandoned.parent, abandoned / "part-0.parquet"):
        os.utime(path, (0, 0))
    _, before = status.ask(tmp_path)
    # The last version of the old ones is made from the checkpoint before it.
    base = max(int(path.stem[:20]) for path in logs.glob("*.checkpoint.parquet") if int(path.stem[:20]) < old)

    done = Engine(tmp_path).maintain("events")
    tally.runs += 1

    assert (done.orphans, abandoned.exists()) == (1, False)
    assert log.first_version(table) == base
    for indexed in (True, False):
        if not indexed:
            (state / "index.json").unlink()
        asked = [status.ask(tmp_path) for _ in range(3)]
        assert min(seconds for seconds, _ in asked) < 1
        assert [intervals(answer) for _, answer in asked] == [intervals(before)] * 3
    commits = list(log.commits_after(table, old, Grain.DAY))
    assert len(commits) >= COMMITS - old
    assert DeltaTable(table, version=old).version() == old


def intervals(answer: object) -> object:
    """What a status says, but for what upkeep changes: the table's version."""
    return json.loads(json.dumps(answer, default=str), object_hook=_without_version)


def _without_version(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name != "version"}
