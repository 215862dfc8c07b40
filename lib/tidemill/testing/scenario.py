"""A test as a list of steps: :class:`Scenario` plays them, and holds the law against the table after each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidemill.clock import ManualClock
from tidemill.config import load_project
from tidemill.engine import Engine
from tidemill.errors import ConfigError
from tidemill.testing.law import breaches, published
from tidemill.testing.processes import Process
from tidemill.testing.source import Event, MemorySource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Oracle = Callable[[Mapping[str, Sequence[Event]]], Iterable[Mapping[str, Any]]]
"""What a table must hold, by the events of each input alone: rows by column, moments with their zone."""
_NOT_COPIED = ("data", ".venv", ".git", ".jars", "__pycache__", "spark-warehouse", ".processes")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens. ``text`` is how a failing scenario prints it."""

    text: str
    do: Callable[[Scenario], object]


class Broken(AssertionError):
    """A scenario failed: its message shows the steps, the one that failed, why, and what the table held."""


class Scenario:
    """One pipeline of a project, in a copy of it, and what happens to it.

    ``project``: the folder to copy (not its data) into ``folder``, which must be empty or new. ``oracle``: see
    :data:`Oracle`; called after every step, with the events so far. ``spark``: the session for what runs in this
    process; crashes and live streams run in processes of their own. ``at``: where the clock stands. The project's
    paths must be relative to it.

    A context manager: on leaving, the processes that it started are gone.

    Raises :class:`ConfigError` when the pipeline writes outside the copy.
    """

    def __init__(
        self,
        project: str | Path,
        pipeline: str,
        *,
        folder: str | Path,
        oracle: Oracle,
        spark: SparkSession | None = None,
        at: datetime = datetime(2024, 1, 1, tzinfo=UTC),
    ) -> None:
        self.folder, self.name, self.oracle = Path(folder).resolve(), pipeline, oracle
        _copy(Path(project), self.folder)
        self.clock = ManualClock(at)
        self._spark = spark
        self.engine = self._engine()
        self.live: Process | None = None
        self.run: str | None = None
        """The last backfill's run."""
        self._processes: list[Process] = []
        model = self.engine.project.pipeline(pipeline)
        self._check_inside(model.table.path)
        moving = {name: each for name, each in model.inputs.items() if each.files is not None}
        self.sources = {name: MemorySource(each) for name, each in moving.items()}
        for source in moving.values():
            self._check_inside(source.source.mark)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()

    def play(self, *steps: Step) -> None:
        """Do the steps in turn, and check the law after each. Raises :class:`Broken` at the first that fails."""
        for number, step in enumerate(steps):
            try:
                step.do(self)
                self.check()
            except Exception as error:
                raise Broken(self._story(steps, number, error)) from error

    def check(self, *, whole: bool = False) -> None:
        """Raise AssertionError when the table breaks the law, naming intervals and rows; see :func:`breaches`."""
        view = self.engine.view(self.name)
        wanted = self.oracle(
            {name: source.events for name, source in self.sources.items()}
            if whole
            else published(view, self.sources)
        )
        found = breaches(view, wanted, whole=whole)
        if found:
            raise AssertionError("\n".join(map(str, found)))

    def source(self, name: str | None = None) -> MemorySource:
        """An input by name; without one, the only one."""
        if name is None and len(self.sources) > 1:
            raise AssertionError(f"say which input: {', '.join(self.sources)}")
        return self.sources[name or next(iter(self.sources))]

    def process(self, verb: str, *names: str, **options: Any) -> Process:
        """A verb in a process of its own, ended with the scenario; see :class:`Process`."""
        process = Process(self.folder, verb, *(names or (self.name,)), **options)
        self._processes.append(process)
        return process

    def changed(self) -> None:
        """Load the project again: its files were edited."""
        self.engine = self._engine()

    def _engine(self) -> Engine:
        return Engine(load_project(self.folder), spark=self._spark, clock=self.clock)

    def _check_inside(self, path: str) -> None:
        if not Path(path).is_relative_to(self.folder):
            raise ConfigError(
                f"{self.name} uses {path}, outside the scenario's copy of the project",
                next_step="use paths relative to the project",
                path=path,
            )

    def _story(self, steps: Sequence[Step], failed: int, error: Exception) -> str:
        lines = [f"{self.name}: {error}", "", "steps:"]
        lines += [f"{'->' if i == failed else '  '} {step.text}" for i, step in enumerate(steps)]
        lines += ["", "the table:"]
        try:
            rows = self.engine.coverage(self.name).rows
            lines += [f"   {r.interval}  {r.rows:>6} rows  {r.state}  {r.why}".rstrip() for r in rows]
        except Exception as another:  # noqa: BLE001  the first error is the one to read
            lines.append(f"   cannot be read: {another}")
        return "\n".join(lines)


def _copy(project: Path, folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty", next_step="give the scenario a new folder")
    ignore = shutil.ignore_patterns(*_NOT_COPIED)
    shutil.copytree(project, folder, ignore=ignore, dirs_exist_ok=True)
