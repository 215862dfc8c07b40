"""An archive of the classes that Spark loads as it starts, so that many short-lived processes start sooner.

Source: the JDK's application class-data sharing, ``-XX:ArchiveClassesAtExit`` and ``-XX:SharedArchiveFile`` (JDK 13).
The JVM checks the archive against its class path, and does without where they do not fit.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tidemill.execution import jars

_BOUND_SECONDS = 180


def archive() -> Path | None:
    """The archive for this interpreter and its Spark, made (three quarters of a minute) when it is not there; None if it cannot be.

    It lies in the user's cache folder, some 200 MB. Without it every process takes about three seconds longer.
    """
    if sys.platform != "linux":
        return None
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemill"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"classes-{_key()}.jsa"
    with (folder / "classes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for old in folder.glob("classes-*.jsa"):
                old.unlink()
            _make(path)
    return path if path.exists() else None


def _key() -> str:
    what = (sys.prefix, os.environ.get("JAVA_HOME"), str(jars.folder()))
    versions = version("pyspark"), version("delta-spark")
    return hashlib.sha256(repr((what, versions, _PROJECT)).encode()).hexdigest()[:16]


def _make(path: Path) -> None:
    fresh = path.with_suffix(".new")
    subprocess.run(
        [sys.executable, "-m", "tidemill.testing.classes", str(fresh)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_BOUND_SECONDS,
        check=False,
    )
    if fresh.exists():
        fresh.replace(path)


def _load_what_runs_load(path: str) -> None:
    """Start Spark, run and backfill a small project, and end: the JVM writes the archive as it exits."""
    from tidemill.config import load_project
    from tidemill.engine import Engine
    from tidemill.execution.session import build_session
    from tidemill.planning.selection import Request

    options = f"-XX:TieredStopAtLevel=1 -XX:ArchiveClassesAtExit={path}"
    settings = {"spark.driver.memory": "600m", "spark.driver.extraJavaOptions": options}
    spark = build_session("tidemill-classes", master="local[2]", settings=settings)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, text in _PROJECT.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        engine = Engine(load_project(folder), spark=spark)
        engine.run()
        for name in engine.project.pipelines:
            engine.backfill(name, Request.between("2024-01-01", "2024-01-03"))
        engine.verify("counts")
    spark.stop()


_COMMON = """
source:
  files: {path: in, format: json, schema: "id INT, key STRING, at TIMESTAMP"}
event_time: {column: at, watermark: 1 hour}
trigger: {available_now: true}
gate: {max_removed: null}
"""
_PROJECT = {
    "in/1.json": '{"id": 1, "key": "a", "at": "2024-01-01T00:00:00Z"}\n{"id": 2, "at": "2024\n',
    "in/2.json": '{"id": 3, "key": "b", "at": "2024-01-03T00:00:00Z"}\n',
    "conf/pipelines/counts.yml": f"""
name: counts{_COMMON}
interval: {{grain: day, column: hour}}
transform: {{sql: "SELECT window.start AS hour, count(*) AS n FROM events GROUP BY window(at, '1 hour')"}}
quality: {{inputs: {{events: {{name: s, expectations: [
  {{type: expect_column_values_to_not_be_null, kwargs: {{column: key}}, meta: {{action: quarantine}}}}]}}}}}}
sink: {{delta: {{path: counts}}}}
""",
    "conf/pipelines/changes.yml": f"""
name: changes{_COMMON}
interval: day
lookback: 1h
transform: loaded_code:changes
sink: {{delta: {{path: changes, key: [id]}}}}
""",
    "loaded_code.py": """
from typing import NamedTuple

from tidemill.folds import Fold, fold


class Seen(NamedTuple):
    n: int


class Changes(Fold[Seen]):
    key, time, order_by = ("key",), "at", ("id",)
    state, output, horizon = "n BIGINT", "id INT, at TIMESTAMP, n BIGINT", "1 hour"

    def zero(self):
        return Seen(0)

    def step(self, state, row):
        return Seen(state.n + 1), [(row.id, row.at, state.n + 1)]


def changes(events):
    return fold(events, Changes())
""",
}


if __name__ == "__main__":
    _load_what_runs_load(sys.argv[1])
