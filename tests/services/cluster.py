"""A real standalone cluster for tests: a master and workers on loopback, from the pyspark of the lock.

    with cluster(workers=2) as found:
        submit("--master", found.master, ...)

It is up when it is given, says how it failed when it does not start, is stopped by its own process ids, and leaves no
data behind. Executors are children of their worker, and in its process group.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tidemill.execution.java import usable_java
from tidemill.execution.settings import spark_home

_WITHIN = 60.0  # seconds, to start and to stop


class ClusterDidNotStart(Exception):
    """The message says which part failed and how, with the end of its log."""


@dataclass
class Cluster:
    """A cluster that is up. ``master`` is what drivers are told."""

    master: str
    _folder: Path
    _workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def workers(self) -> tuple[int, ...]:
        """The process ids of the workers that run."""
        return tuple(each.pid for each in self._workers if each.poll() is None)

    def start_worker(self) -> None:
        """One more worker, of one core; it is registered when this returns."""
        number = len(self._workers)
        work = self._folder / f"work-{number}"
        arguments = [
            "--host",
            "127.0.0.1",
            "--cores",
            "1",
            "--memory",
            "700m",
            "--work-dir",
            str(work),
            "--webui-port",
            "0",
        ]
        self._workers.append(
            _started(
                "worker.Worker",
                [*arguments, self.master],
                self._folder / f"worker-{number}.log",
                "Successfully registered",
            )
        )

    def stop_workers(self) -> None:
        """Kill the workers and whatever they run."""
        for each in self._workers:
            _kill(each)


@contextmanager
def cluster(*, workers: int) -> Iterator[Cluster]:
    """A master and its workers. Raises :class:`ClusterDidNotStart` when one is not up within a minute."""
    folder = Path(tempfile.mkdtemp(prefix="tidemill-cluster-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    master = None
    found = Cluster(f"spark://127.0.0.1:{port}", folder)
    try:
        master = _started("master.Master", arguments, folder / "master.log", "I have been elected leader")
        for _ in range(workers):
            found.start_worker()
        yield found
    finally:
        found.stop_workers()
        if master is not None:
            _kill(master)
        shutil.rmtree(folder, ignore_errors=True)


def parents(pid: int) -> list[int]:
    """A process's parent, and the parent of that, up to the first."""
    found = []
    while pid > 1:
        # The second field, the name, may hold blanks and brackets.
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def is_executor(pid: int) -> bool:
    """Whether a process is the JVM of an executor."""
    return b"CoarseGrainedExecutorBackend" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _started(part: str, arguments: list[str], log: Path, up: str) -> subprocess.Popen[bytes]:
    java, _ = usable_java()
    # Its own script puts itself in the place of the shell: the process is the JVM.
    command = [f"{spark_home()}/bin/spark-class", f"org.apache.spark.deploy.{part}", *arguments]
    environment = {
        **os.environ,
        "JAVA_HOME": str(Path(java).resolve().parents[1]),
        "SPARK_HOME": spark_home(),
        "SPARK_DAEMON_MEMORY": "192m",
        "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "SPARK_LOCAL_DIRS": str(log.parent / "local"),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=log.parent, env=environment, start_new_session=True
        )
    end = time.monotonic() + _WITHIN
    while not re.search(up, log.read_text(errors="replace")):
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        if process.poll() is not None:
            raise ClusterDidNotStart(f"{part} ended with code {process.returncode}:\n{last}")
        if time.monotonic() > end:
            _kill(process)
            raise ClusterDidNotStart(f"{part} was not up within {_WITHIN:.0f} s:\n{last}")
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    # The group outlives its leader where that was killed: executors are in it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_WITHIN)
