"""Row 15: upkeep beside slow readers, runs that can be undone, and runs that are staged. It takes nothing they need."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.fire.mill import Mill
from tidemill import PlanError
from tidemill.ledger.coverage import State
from tidemill.planning.selection import Request
from tidemill.testing import Point

pytestmark = [pytest.mark.row(15), pytest.mark.timeout(900)]
STALE = Request(states=frozenset({State.STALE}))
DAY, TEN_DAYS = 86_400, 10 * 86_400
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
    assert read(world, before) == slow, "a slow reader lost its files"
    world.engine.publish(staged, force=True)
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
