"""Starting, watching and killing the processes of a scenario. Waits for conditions, with a bound."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

REPOSITORY = Path(__file__).resolve().parents[2]
_WORKER = Path(__file__).with_name("worker.py")
_BOUND_SECONDS = 120


def flights_project(folder: Path) -> Path:
    """A copy of the repository's own project, without its data."""
    for part in ("conf", "jobs"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class Worker:
    """One worker process, the leader of a process group that a kill takes down whole, JVM included."""

    def __init__(self, project: Path, verb: str, *names: str) -> None:
        self.log = project / f"{verb}-{'-'.join(names)}.log"
        environment = {**os.environ, "TIDEMILL_DRIVER_MEMORY": "700m"}
        with self.log.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(_WORKER), str(project), verb, *names],
                cwd=project,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """kill -9 of the whole group."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=30)

    def stop(self) -> None:
        """SIGTERM to the driver alone; it must finish its batch and end with 0."""
        self._process.send_signal(signal.SIGTERM)
        self.finish()

    def code(self) -> int:
        """Wait until it has ended; its exit code."""
        return self._process.wait(timeout=_BOUND_SECONDS)

    def finish(self) -> None:
        """Wait until it has ended, with 0."""
        assert self.code() == 0, self.log.read_text()[-3000:]

    def wait_until(self, condition: Callable[[], bool], what: str) -> bool:
        """Wait until ``condition`` holds (True) or the process has ended (False)."""
        pause = threading.Event()
        for _ in range(_BOUND_SECONDS * 20):
            if condition():
                return True
            if not self.running:
                return False
            pause.wait(0.05)
        raise AssertionError(f"waited {_BOUND_SECONDS} s for {what}\n{self.log.read_text()[-3000:]}")


def table_version(path: Path) -> int:
    """The newest version of a table by its log; -1 before there is one."""
    return max((int(p.stem) for p in (path / "_delta_log").glob("*.json") if p.stem.isdigit()), default=-1)


def rows(path: Path) -> list[dict[str, Any]]:
    """Every row of a table."""
    return list(DeltaTable(str(path)).to_pyarrow_table().to_pylist())
