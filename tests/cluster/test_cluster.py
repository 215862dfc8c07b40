"""Row 7 of the fault matrix, and the same pipelines on a real cluster: a Python worker, an executor and a worker die in the
middle of a task, and each has one effect: none.

Everything is submitted as the guide says, by `spark-submit.sh`; the oracle is made of the events alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from tests.services.cluster import Cluster, cluster, is_executor, parents
from tidemill.testing.processes import FIRST_COMPILER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
REPOSITORY = Path(__file__).resolve().parents[2]
BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
PIPELINES = {
    "doubled": {"transform": "held:doubled", "sink": {"delta": {"path": "tables/doubled"}}},
    "hourly": {"transform": "held:hourly", "sink": {"delta": {"path": "tables/hourly"}}},
}
TRANSFORMS = """
import os

from pyspark.sql import functions as F

PLACE = {place!r}


def doubled(events):
    def rows(frames):
        for frame in frames:
            hold(frame)
            yield frame.assign(twice=frame["v"] * 2)

    def hold(frame):
        for name in sorted(set(frame.loc[frame["hold"] != "", "hold"])):
            try:
                os.close(os.open(f"{{PLACE}}/{{name}}.came", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue  # it is done again, in the place of one that was killed here
            with open(f"{{PLACE}}/{{name}}.pid.new", "w") as file:
                file.write(str(os.getpid()))
            os.rename(f"{{PLACE}}/{{name}}.pid.new", f"{{PLACE}}/{{name}}.pid")
            open(f"{{PLACE}}/{{name}}.go").read()

    return events.mapInPandas(rows, "id BIGINT, at TIMESTAMP, v BIGINT, hold STRING, twice BIGINT").drop("hold")


def hourly(events):
    per_hour = events.groupBy(F.window("at", "1 hour")).agg(F.count("*").alias("n"), F.sum("v").alias("total"))
    return per_hour.select(F.col("window.start").alias("hour"), "n", "total")
"""


class Submitted:
    """A project, and its jobs submitted to a cluster."""

    def __init__(self, folder: Path, found: Cluster) -> None:
        self.folder, self.cluster = folder, found
        self.events: list[dict[str, Any]] = []
        (folder / "events").mkdir()
        (folder / "places").mkdir()
        (folder / "conf/pipelines").mkdir(parents=True)
        (folder / "conf/spark").mkdir()
        (folder / "conf/spark/cluster.conf").write_text(f"spark.executor.extraJavaOptions {FIRST_COMPILER}\n")
        (folder / "held.py").write_text(TRANSFORMS.format(place=str(folder / "places")))
        for name, part in PIPELINES.items():
            files = {
                "path": "events",
                "format": "json",
                "schema": "id BIGINT, at TIMESTAMP, v BIGINT, hold STRING",
                "max_files_per_batch": 1,
            }
            values = {
                "name": name,
                "source": {"files": files},
                "event_time": {"column": "at", "watermark": "1 hour"},
                "interval": {"grain": "day", "column": "at" if name == "doubled" else "hour"},
                "trigger": {"processing_time": "1 second"},
                **part,
            }
            (folder / f"conf/pipelines/{name}.yml").write_text(json.dumps(values))

    def land(self, name: str, *, day: int, hold: str = "", rows: int = 40) -> None:
        """A file of events of one day, the last of which may hold the task that comes upon it."""
        first = len(self.events)
        new = [
            {
                "id": first + i,
                "at": (BEGIN + timedelta(days=day, minutes=13 * i)).isoformat(),
                "v": first * 7 + i,
                "hold": "",
            }
            for i in range(rows)
        ]
        new[-1]["hold"] = hold
        self.events += new
        path = self.folder / "events" / f"{name}.json"
        path.with_suffix(".new").write_text("".join(json.dumps(each) + "\n" for each in new))
        path.with_suffix(".new").rename(path)

    def submit(self, job: str, *arguments: str) -> subprocess.Popen[bytes]:
        settings = {
            "spark.executor.memory": "600m",
            "spark.driver.memory": "600m",
            "spark.sql.shuffle.partitions": "2",
        }
        conf = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
        command = [
            *(str(REPOSITORY / "spark-submit.sh"), "--master", self.cluster.master, *conf),
            *(str(REPOSITORY / "jobs" / job), *arguments, "--project", str(self.folder)),
        ]
        with (self.folder / "said.txt").open("ab") as out:
            environment = {**os.environ, "SPARK_SUBMIT_OPTS": FIRST_COMPILER}
            return subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder, env=environment)

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text(errors="replace")[-6000:]

    def until(self, running: subprocess.Popen[bytes], condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds; the job must not end before."""
        end = time.monotonic() + 180
        while not condition():
            assert time.monotonic() < end, f"waited 180 s for {what}\n{self.said}"
            try:
                code = running.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            assert condition(), f"the job ended with {code}, waiting for {what}\n{self.said}"

    def held(self, running: subprocess.Popen[bytes], name: str) -> int:
        """The Python worker that waits in the middle of its task."""
        path = self.folder / "places" / f"{name}.pid"
        self.until(running, path.exists, f"a task held at {name}")
        return int(path.read_text())

    def finish(self, job: str, *arguments: str) -> None:
        """Submit a job that ends, and ends well."""
        running = self.submit(job, *arguments)
        try:
            assert running.wait(240) == 0, self.said
        finally:
            end(running)

    def rows(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / "tables" / name
        if not (path / "_delta_log").exists():
            return []
        return DeltaTable(str(path)).to_pyarrow_table().to_pylist()

    def doubled(self) -> Counter[tuple[Any, ...]]:
        return Counter((row["id"], row["at"], row["v"], row["twice"]) for row in self.rows("doubled"))

    def doubled_of_events(self) -> Counter[tuple[Any, ...]]:
        return Counter(
            (each["id"], datetime.fromisoformat(each["at"]), each["v"], 2 * each["v"]) for each in self.events
        )

    def hourly_of_events(self) -> dict[datetime, tuple[int, int]]:
        found: dict[datetime, tuple[int, int]] = {}
        for each in self.events:
            hour = datetime.fromisoformat(each["at"]).replace(minute=0)
            n, total = found.get(hour, (0, 0))
            found[hour] = n + 1, total + each["v"]
        return found


def end(running: subprocess.Popen[bytes]) -> None:
    """Leave nothing of a job behind: the script's child is the JVM, which leads a group with the driver in it."""
    if running.poll() is None:
        for child in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.killpg(int(child), signal.SIGKILL)
        running.kill()
    running.wait(60)


@pytest.fixture
def submitted(tmp_path: Path) -> Iterator[Submitted]:
    with cluster(workers=2) as found:
        yield Submitted(tmp_path, found)


def test_deaths_on_a_cluster_have_no_effect(submitted: Submitted) -> None:
    names = ["python-worker", "executor", "worker"]
    for name in names:
        os.mkfifo(submitted.folder / "places" / f"{name}.go")
    submitted.land("0", day=0)
    stream = submitted.submit("stream.py", "doubled", "hourly")
    try:
        for day, name in enumerate(names, start=1):
            submitted.land(name, day=day, hold=name)
            held = submitted.held(stream, name)
            executor = next(pid for pid in parents(held) if is_executor(pid))
            worker = parents(executor)[0]
            assert worker in submitted.cluster.workers
            os.kill({"python-worker": held, "executor": executor, "worker": worker}[name], signal.SIGKILL)
            submitted.until(
                stream,
                lambda: submitted.doubled() == submitted.doubled_of_events(),
                f"the rows that were held when the {name} was killed",
            )
        stream.send_signal(signal.SIGTERM)
        assert stream.wait(120) == 0, submitted.said
    finally:
        end(stream)

    submitted.land("late", day=0)
    submitted.land("on", day=6)
    submitted.finish("stream.py", "doubled", "hourly", "--available-now")
    submitted.finish("backfill.py", "hourly", "--dirty", "--yes")
    assert submitted.doubled() == submitted.doubled_of_events()
    clean = BEGIN + timedelta(days=4)
    assert {
        row["hour"]: (row["n"], row["total"]) for row in submitted.rows("hourly") if row["hour"] < clean
    } == {hour: found for hour, found in submitted.hourly_of_events().items() if hour < clean}
