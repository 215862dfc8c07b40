"""How a demo tells what it does: steps with their results and seconds, and the memory that it took."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tidemill.errors import TidemillError

_WAIT_SECONDS = 900


@dataclass
class Step:
    """One step under way: ``show`` prints a line, ``say`` also puts it on the last page."""

    console: Console
    said: list[str] = field(default_factory=list)

    def show(self, line: str) -> None:
        """Print a detail."""
        self.console.print(f"  {line}", markup=False)

    def say(self, line: str) -> None:
        """Print a result, and keep it."""
        self.said.append(line)
        self.show(line)


@dataclass
class Story:
    """What happened, step by step, with its seconds."""

    console: Console
    steps: list[tuple[str, str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Time a step; what it says is its result."""
        self.console.rule(f"[bold]{title}", align="left")
        step = Step(self.console)
        began = time.monotonic()
        yield step
        self.steps.append((title, "\n".join(step.said), time.monotonic() - began))

    def table(self, peak: int) -> Table:
        """The last page."""
        table = Table(title="What happened", title_justify="left")
        table.add_column("step")
        table.add_column("result")
        table.add_column("seconds", justify="right")
        for title, result, seconds in self.steps:
            table.add_row(title, result, f"{seconds:.1f}")
        table.add_section()
        table.add_row("memory", f"at most {peak / 1024:.2f} GiB in all processes together", "")
        return table


def wait(condition: Callable[[], bool], log: str) -> None:
    """Wait until something is true of a process that writes ``log``, for a quarter of an hour at most."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TidemillError("the live process makes no progress", next_step=f"read {log}")
        threading.Event().wait(0.5)


class Memory:
    """Watches the memory of this process and its children: proportional set sizes, twice a second."""

    def __init__(self) -> None:
        self.peak_mib = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.peak_mib = max(self.peak_mib, sum(map(_pss_mib, _tree(os.getpid()))))


def _tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def _pss_mib(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
