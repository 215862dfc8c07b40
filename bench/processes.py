"""What a process and its descendants use, read from ``/proc``."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 1024**2


def cpu_seconds(root: int) -> float:
    """CPU time that a process tree has used so far, with that of descendants that have ended."""
    # utime, stime, and both again for children that were waited for.
    return sum(sum(map(int, _stat(process)[11:15])) for process in tree(root)) / _TICKS


def tree_gib(root: int) -> float:
    """Memory of a process tree: proportional set sizes, so that shared pages count once."""
    return sum(map(_pss_kib, tree(root))) / 1024**2


def own_mib() -> float:
    """Resident memory of this process alone."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_MIB


def tree(root: int) -> list[int]:
    """A process and all its descendants, by id."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields[0] != "?":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def _stat(process: int) -> list[str]:
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return ["?", *["0"] * 20]
    return text.rpartition(")")[2].split()


def _pss_kib(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


class Watch:
    """Reads a value every so often, in a thread, while a ``with`` block runs."""

    def __init__(self, read: Callable[[], float], *, every: float) -> None:
        self.seen: list[tuple[float, float]] = []
        """When (epoch milliseconds), and what."""
        self._read, self._every = read, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak(self) -> float:
        """The greatest value seen."""
        return max((value for _, value in self.seen), default=0.0)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.seen.append((time.time() * 1000, self._read()))
            self._stop.wait(self._every)
