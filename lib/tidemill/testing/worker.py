"""A verb in a process of its own, for a test to kill, stop or hold: ``python -m tidemill.testing.worker REQUEST``.

``REQUEST`` is the JSON that :class:`tidemill.testing.processes.Process` writes.
"""

from __future__ import annotations

import glob
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.engine import Engine
from tidemill.errors import TidemillError
from tidemill.execution.session import build_session
from tidemill.intervals import parse_moment
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening
from tidemill.testing.mutants import Guard, without

if TYPE_CHECKING:
    from tidemill.execution.backfill import Done

HOLD_SECONDS = 120.0
_POLL = 0.002


def main(text: str) -> int:
    """Do what the request says; the exit code of its verb."""
    request = json.loads(text)
    with ExitStack() as stack:
        for name in request.get("without", ()):
            stack.enter_context(without(Guard(name)))
        stack.enter_context(listening(_listener(request)))
        if request.get("crash_on_file"):
            _crash_on_file(request["crash_on_file"])
        return _do(request)


def request_of(values: dict[str, Any]) -> Request:
    """The intervals that a request's plain values mean."""
    return Request(
        start=parse_moment(values["start"]) if "start" in values else None,
        end=parse_moment(values["end"]) if "end" in values else None,
        states=frozenset(State(name) for name in values.get("states", ())),
        include_open=values.get("include_open", False),
    )


def _do(request: dict[str, Any]) -> int:
    verb, names = request["verb"], request["names"]
    if verb == "cli":
        from tidemill.cli.app import main as command  # the verbs below do without it

        command([*names, "--project", request["project"]])
        return 0
    engine = Engine(request["project"], spark=_session(request), say=_say)
    try:
        if verb in {"run", "stream"}:
            return _live(engine, names, request)
        if verb == "backfill":
            work = request_of(request.get("select", {}))
            taking = {key: request[key] for key in ("stage_only", "take_over") if key in request}
            return _tell(engine.backfill(names[0], work, **taking))
        if verb == "bootstrap":
            found = engine.bootstrap(
                names[0], newest_first=request.get("newest_first", False), chunk=request.get("chunk")
            )
            return _tell(found.done) if found.done else 0
        if verb in {"restart", "resume", "publish"}:
            return _tell(getattr(engine, verb)(names[0]))
        if verb == "undo":
            _say(f"undone {engine.undo(names[0])}")
        elif verb == "maintain":
            _say(f"{engine.maintain(names[0]).as_json()}")
        else:
            _say(f"there is no verb {verb!r}")
            return 2
    except TidemillError as error:
        _say(f"{error.code}: {error}")
        return error.exit_code
    return 0


def _session(request: dict[str, Any]) -> Any:
    if request["verb"] in {"maintain", "undo", "publish"}:
        return None
    return build_session(
        "tidemill-testing", master="local[2]", settings=request["spark"], project=Path(request["project"])
    )


def _live(engine: Engine, names: list[str], request: dict[str, Any]) -> int:
    every = timedelta(milliseconds=request.get("every_ms", 100))
    trigger = Trigger(available_now=True) if request["verb"] == "run" else Trigger(processing_time=every)
    outcomes = engine.run(*names, trigger=trigger, take_over=request.get("take_over", False))
    for outcome in outcomes:
        if outcome.error is not None:
            _say(f"{outcome.error.code}: {outcome.error}")
    return max((each.error.exit_code for each in outcomes if each.error is not None), default=0)


def _tell(done: Done) -> int:
    for chunk in done.chunks:
        _say(f"chunk {chunk.chunk + 1}: {chunk.outcome}, {chunk.retries} retries")
    return 1 if done.refused else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _listener(request: dict[str, Any]) -> Callable[[Point], None]:
    crash = request.get("crash")
    held = frozenset(Point(name) for name in request.get("hold", ()))
    barrier = Barrier(Path(request["barriers"]))
    left = int(request.get("crash_nth", 1))
    alone = threading.Lock()

    def listen(point: Point) -> None:
        nonlocal left
        if crash is not None and point == crash:
            with alone:
                left -= 1
                if left == 0:
                    os.killpg(0, signal.SIGKILL)
        if point in held:
            barrier.wait(point)

    return listen


class Barrier:
    """Where a process waits for its test: ``<n>.<point>`` says that it is there, ``<n>.go`` lets it on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def wait(self, point: Point) -> None:
        """Say that this process is at ``point``, and wait until it may go on; gives up after two minutes."""
        if (self._folder / "free").exists():
            return
        self._count += 1
        (self._folder / f"{self._count}.{point}").touch()
        end = time.monotonic() + HOLD_SECONDS
        while time.monotonic() < end:
            if (self._folder / f"{self._count}.go").exists() or (self._folder / "free").exists():
                return
            time.sleep(_POLL)
        raise TimeoutError(f"held at {point} for {HOLD_SECONDS:.0f} s, and nobody let go")


def _found(pattern: str) -> set[str]:
    return set(glob.glob(pattern, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern


def _crash_on_file(pattern: str) -> None:
    known = _found(pattern)

    def watch() -> None:
        while _found(pattern) <= known:
            time.sleep(_POLL)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
