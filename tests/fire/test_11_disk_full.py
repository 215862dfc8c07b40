"""Row 11: the disk is full, at any moment of a batch. The table stays readable; when there is room, all goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.fire.mill import Mill
from tidemill import TidemillError
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request

pytestmark = [pytest.mark.row(11), pytest.mark.timeout(900)]
ROOM = (0, 4, 12, 24, 60, 120)
"""Kilobytes that are left: none, then enough for ever more of what a batch writes."""


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 32 MiB at ``folder``."""
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tidemill-test", str(folder)],  # noqa: S607  where it is, differs
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"this user may not mount a file system: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607  as above


@contextmanager
def full(disk: Path, but: int) -> Iterator[None]:
    """The disk has ``but`` kilobytes left inside."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as out, suppress(OSError):
        while True:
            out.write(b"x" * 4096)
    size = ballast.stat().st_size
    with ballast.open("r+b") as out:
        out.truncate(max(0, size - but * 1024))
    try:
        yield
    finally:
        ballast.unlink()


def test_a_full_disk_stops_the_stream_and_harms_nothing(mill: Callable[..., Mill], tmp_path: Path) -> None:
    world = mill(disk=small_disk)
    world.arrive(3, poison=1)
    world.run()
    failed = 0
    for but in ROOM:
        world.arrive(1, poison=1)
        with full(world.folder / "data", but):
            try:
                for outcome in world.engine.run(*world.names):
                    assert outcome.error is None or isinstance(outcome.error, TidemillError)
                    failed += outcome.error is not None
            except TidemillError:
                failed += 1
            world.check()
        world.run()
        world.check()
        world.check_quarantine()
    assert failed, "the disk was never full"
    world.pass_time()
    world.settle()


def test_a_full_disk_stops_a_backfill_and_harms_nothing(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",), disk=small_disk)
    world.arrive(6)
    world.run()
    failed = 0
    for but in ROOM:
        world.use(world.factor + 1)
        with full(world.folder / "data", but):
            try:
                world.engine.backfill("readings", Request(states=frozenset({State.STALE})))
            except TidemillError:
                failed += 1
            world.check()
        world.repair("readings")
        world.check(whole=True)
    assert failed, "the disk was never full"
    world.settle()
