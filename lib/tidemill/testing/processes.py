"""Verbs in processes of their own: started, killed whole, stopped, held at a point. Waits have a bound."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidemill.execution import jars
from tidemill.execution.settings import JAVA_OPTIONS
from tidemill.protocol import Point
from tidemill.testing.classes import archive

BOUND_SECONDS = 120.0
_POLL = 0.01
SMALL: Mapping[str, str] = {"spark.driver.memory": "600m", "spark.sql.shuffle.partitions": "2"}
"""What a process's Spark session is set to, besides tidemill's defaults."""
# With the first compiler alone Java sets 48 MB aside for code; a process of some dozens of batches fills them, and dies.
FIRST_COMPILER = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
"""Of :func:`java_options` those that fit a JVM with any class path: an executor's, say."""


def java_options() -> str:
    """Java's options for a JVM that lives for seconds or runs small tests: it starts sooner, and does not pay for the
    optimizing compiler, whose work (a fifth of such a JVM's time) would not pay.

    >>> "-XX:TieredStopAtLevel=1" in java_options()
    True
    """
    classes = archive()
    return FIRST_COMPILER if classes is None else f"{FIRST_COMPILER} -XX:SharedArchiveFile={classes}"


def short_lived(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a session, with :func:`java_options` for its JVM."""
    options = [settings.get(JAVA_OPTIONS, ""), java_options()]
    return {**settings, JAVA_OPTIONS: " ".join(filter(None, options))}


def short_lived_environment() -> dict[str, str]:
    """What gives every Spark driver that is started with it those options, however it is started: by ``spark-submit``,
    from Python, in a notebook.
    """
    return {"SPARK_SUBMIT_OPTS": java_options()}


class Process:
    """One verb at work, the leader of a process group: a kill takes its JVM and Python workers with it.

    ``verb``: ``run``, ``stream``, ``backfill``, ``restart``, ``resume``, ``publish``, ``undo``, ``maintain``; or ``cli``,
    and then ``names`` are the words of a command line.

    ``crash``: the point at which it kills its own group, the ``crash_nth`` time that it comes there.
    ``crash_on_file``: a glob; it kills its group when a new file matches. ``hold``: points at which it waits for
    :meth:`release`. ``without``: guards that are removed from it (:class:`tidemill.testing.Guard`).
    Other ``options``: ``select`` (``start``, ``end``, ``states``, ``include_open``), ``stage_only``,
    ``take_over``, ``every_ms``.

    >>> Process(project, "run", "departures", crash=Point.COMMITTED).wait_killed()  # doctest: +SKIP
    """

    def __init__(
        self,
        project: Path,
        verb: str,
        *names: str,
        crash: Point | None = None,
        hold: Sequence[Point] = (),
        spark: Mapping[str, str] = SMALL,
        **options: Any,
    ) -> None:
        self.what = " ".join([verb, *names, *([f"until {crash}"] if crash else [])])
        self._folder = project / ".processes" / f"{time.time_ns()}-{secrets.token_hex(3)}"
        self._folder.mkdir(parents=True)
        self._count = 0
        request = {
            "project": str(project),
            "verb": verb,
            "names": names,
            "crash": crash,
            "hold": list(hold),
            "barriers": str(self._folder),
            "spark": short_lived(spark),
            **options,
        }
        with (self._folder / "output.txt").open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidemill.testing.worker", json.dumps(request)],
                cwd=project,
                # The project may be a copy without jars; those of where the test runs are there.
                env={**os.environ, "TIDEMILL_JARS": str(jars.folder())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended; a stopped one runs."""
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """What it has printed so far, the end of it."""
        return (self._folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-4000:]

    def wait(self, bound: float = BOUND_SECONDS) -> int:
        """Wait until it has ended; its exit code, negative for a signal. Raises AssertionError after ``bound`` s."""
        try:
            return self._process.wait(timeout=bound)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.what} has not ended in {bound:.0f} s\n{self.said}") from None

    def finish(self) -> None:
        """Wait until it has ended, with 0."""
        code = self.wait()
        if code:
            raise AssertionError(f"{self.what} ended with {code}\n{self.said}")

    def wait_killed(self) -> bool:
        """Wait for the crash that was asked for: True, or False when it ended well without coming there."""
        code = self.wait()
        if code not in {0, -signal.SIGKILL}:
            raise AssertionError(f"{self.what} ended with {code}\n{self.said}")
        # The JVM dies with the group, a moment later at most; its files are done with.
        return code != 0

    def wait_for(self, condition: Callable[[], bool], what: str) -> bool:
        """Wait until ``condition`` holds, True, or this process has ended, False; AssertionError after the bound."""
        end = time.monotonic() + BOUND_SECONDS
        while not condition():
            if not self.running:
                return condition()
            if time.monotonic() > end:
                raise AssertionError(f"{self.what}: waited {BOUND_SECONDS:.0f} s for {what}\n{self.said}")
            time.sleep(_POLL)
        return True

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """As :meth:`wait_for`, and this process must not end before."""
        if not self.wait_for(condition, what):
            raise AssertionError(f"{self.what} has ended, waiting for {what}\n{self.said}")

    def held(self) -> Point:
        """Wait until it is held at its next point, and say which."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [
                path.name.partition(".")[2]
                for path in self._folder.glob(f"{self._count + 1}.*")
                if not path.name.endswith(".go")
            ]
            return bool(found)

        self.wait_until(there, "a point to be held at")
        return Point(found[0])

    def release(self) -> None:
        """Let it on from the point where it is held."""
        self.held()
        self._count += 1
        (self._folder / f"{self._count}.go").touch()

    def free(self) -> None:
        """Let it on, and hold it no more."""
        (self._folder / "free").touch()

    def kill(self) -> None:
        """Kill -9 of the whole group."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(timeout=30)

    def stop(self) -> None:
        """SIGTERM: it finishes its batch and ends with 0."""
        self._process.send_signal(signal.SIGTERM)
        self.finish()

    def freeze(self) -> None:
        """SIGSTOP to the whole group, JVM and all: it does nothing, and knows nothing of it."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to the whole group."""
        os.killpg(self.pid, signal.SIGCONT)
