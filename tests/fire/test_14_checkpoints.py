"""Row 14: a checkpoint that is gone, torn, or another's. The run is refused or exact; no row is skipped in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fire.mill import Mill
from tidemill import TidemillError

pytestmark = [pytest.mark.row(14), pytest.mark.timeout(600)]


def newest(folder: Path) -> Path:
    """The file of a numbered log that has the greatest number."""
    return max((path for path in folder.iterdir() if path.stem.isdigit()), key=lambda path: int(path.stem))


def remove(path: Path) -> None:
    """A file or a folder, gone."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def halve(path: Path) -> None:
    """A file, cut in the middle."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    """A file of nothing."""
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": remove,
    "its offsets deleted": lambda c: remove(c / "offsets"),
    "its newest offset deleted": lambda c: remove(newest(c / "offsets")),
    "its newest offset halved": lambda c: halve(newest(c / "offsets")),
    "its newest offset empty": lambda c: empty(newest(c / "offsets")),
    "its commits deleted": lambda c: remove(c / "commits"),
    "its newest commit empty": lambda c: empty(newest(c / "commits")),
    "its identity deleted": lambda c: remove(c / "metadata"),
    "its identity halved": lambda c: halve(c / "metadata"),
    "its files' log deleted": lambda c: remove(c / "sources"),
    "its newest files' log halved": lambda c: halve(newest(c / "sources/0")),
    "its state deleted": lambda c: remove(c / "state"),
}


def damaged(mill: Mill, what: str) -> str:
    """Damage the checkpoint of ``hourly``, let new rows come, run; gives what became of it. Then mends it."""
    checkpoint = mill.folder / "data/hourly/_tidemill/checkpoint"
    kept = mill.folder / "kept"
    before = mill.versions()
    shutil.copytree(checkpoint, kept)
    DAMAGES[what](checkpoint)
    mill.arrive(1)
    (outcome,) = mill.engine.run("hourly")
    assert outcome.error is None or isinstance(outcome.error, TidemillError)
    if outcome.error is None:
        shutil.rmtree(kept)
        return "exact"
    assert outcome.error.next_step
    shutil.rmtree(checkpoint, ignore_errors=True)
    kept.rename(checkpoint)
    assert mill.versions() == before, "refused, and yet something was published"
    return outcome.error.code


# Half of them in each world, so that Spark does not compact a log meanwhile: to damage that is another damage.
@pytest.mark.parametrize("some", [tuple(DAMAGES)[half::2] for half in (0, 1)], ids=["one", "other"])
def test_a_damaged_checkpoint_is_refused_or_harmless(
    mill: Callable[..., Mill], some: tuple[str, ...]
) -> None:
    """One damage after the other, in any order; what was refused is mended before the next."""
    world = mill(names=("hourly",))
    world.arrive(3)
    world.run()
    for what in world.chance.sample(some, len(some)):
        print(f"{what}: {damaged(world, what)}")  # noqa: T201  # pytest shows it when the test fails
        world.check()
    world.pass_time()
    world.settle()


def test_the_checkpoint_of_another_pipeline_is_refused(mill: Callable[..., Mill]) -> None:
    world = mill()
    world.arrive(3)
    world.run()
    mine, other = (world.folder / f"data/{name}/_tidemill/checkpoint" for name in ("hourly", "readings"))
    mine.rename(world.folder / "kept")
    shutil.copytree(other, mine)
    world.arrive(1)
    (outcome,) = world.engine.run("hourly")
    assert outcome.error is not None
    assert outcome.error.code == "STATE"
    world.check()
    shutil.rmtree(mine)
    (world.folder / "kept").rename(mine)
    world.settle()


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("older", ["the checkpoint", "the table"])
def test_a_checkpoint_and_a_table_of_two_times_are_refused(
    mill: Callable[..., Mill], older: str, batches: int
) -> None:
    """Whoever restores one of them alone is told; to go on would lose what was read between both times."""
    world = mill(names=("readings",))
    table, kept = world.folder / "data/readings", world.folder / "kept"
    checkpoint = table / "_tidemill/checkpoint"

    def swap() -> None:
        """What is there for what was kept."""
        for each in (
            (kept / "checkpoint",) if older == "the checkpoint" else sorted((kept / "table").iterdir())
        ):
            at = checkpoint if older == "the checkpoint" else table / each.name
            away = world.folder / "away"
            at.rename(away)
            each.rename(at)
            away.rename(each)

    world.arrive(2)
    world.run()
    shutil.copytree(checkpoint, kept / "checkpoint")
    shutil.copytree(table, kept / "table", ignore=shutil.ignore_patterns("_tidemill"))
    for _ in range(batches):
        world.arrive(1)
        world.run()
    before = world.versions()
    swap()
    world.arrive(1)
    (outcome,) = world.engine.run("readings")
    assert outcome.error is not None
    assert outcome.error.code == "STATE"
    # A folder's files are read by number, and those of the batches between are not in the older checkpoint.
    assert (older == "the checkpoint") is ("of an earlier time" not in str(outcome.error))
    swap()
    assert world.versions() == before
    world.run()
    world.check()
    world.settle()
