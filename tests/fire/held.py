"""Work in a thread of this process, held at named points until the test lets it on."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self, TypeVar

from tidemill.testing import Point, listening

T = TypeVar("T")
_BOUND = 120.0


class Held:
    """A context manager: inside, whoever comes to one of ``points`` in this process waits for :meth:`release`."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = frozenset(points)
        self._there: queue.Queue[Point] = queue.Queue()
        self._go: queue.Queue[None] = queue.Queue()
        self._now: Point | None = None
        self._free = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(listening(self._listen))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _listen(self, point: Point) -> None:
        if point in self._points and not self._free:
            self._there.put(point)
            self._go.get(timeout=_BOUND)

    def at(self) -> Point:
        """Wait until the work is held, and say where."""
        if self._now is None:
            self._now = self._there.get(timeout=_BOUND)
        return self._now

    def release(self) -> None:
        """Let the work on."""
        self.at()
        self._now = None
        self._go.put(None)

    def free(self) -> None:
        """Let the work on, and hold it no more, wherever it comes again."""
        self._free = True
        self._go.put(None)

    @contextmanager
    def begun(self, work: Callable[[], T]) -> Iterator[Callable[[], T]]:
        """Begin ``work`` in a thread; gives a function that waits for its result. On leaving it is held no more."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            try:
                yield lambda: future.result(timeout=_BOUND)
            finally:
                self.free()
