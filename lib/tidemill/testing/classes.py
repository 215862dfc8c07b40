"""An archive of the classes that Spark loads as it starts, so that many short-lived processes start sooner.

Source: the JDK's application class-data sharing, ``-XX:ArchiveClassesAtExit`` and ``-XX:SharedArchiveFile`` (JDK 13).
The JVM checks the archive against its class path, and does without where they do not fit.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from tidemill.execution import jars

_BOUND_SECONDS = 180
_KEPT_SECONDS = 7 * 86_400


def archive() -> Path | None:
    """The archive for this interpreter and its Spark, made (half a minute) when it is not there; None if it cannot be.

    It lies in the user's cache folder, some 200 MB. Without it every process takes about three seconds longer.
    """
    if sys.platform != "linux":
        return None
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemill"
    folder.mkdir(parents=True, exist_ok=True)
    place, contents = _place(), _contents(_class_path())
    path = folder / f"classes-{place}-{contents}.jsa"
    with (folder / "classes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _take_away_outdated(folder, place)
            _make(path)
    return path if path.exists() else None


def _take_away_outdated(folder: Path, place: str) -> None:
    """What was here before, and what nobody has made anew for a week. Another checkout's is left alone: two of them
    would take each other's away, again and again.
    """
    for old in folder.glob("classes-*.jsa"):
        if old.name.startswith(f"classes-{place}-") or time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            old.unlink()


def _place() -> str:
    return _digest([sys.prefix, str(jars.folder())])


def _class_path() -> list[Path]:
    spark = find_spec("pyspark")
    folders = [jars.folder(), *([Path(spark.origin).parent / "jars"] if spark and spark.origin else [])]
    return sorted(jar for folder in folders for jar in folder.glob("*.jar"))


def _contents(class_path: list[Path]) -> str:
    """What the JVM compares before it takes an archive, and it falls back in silence: each file's size and time."""
    java = os.environ.get("JAVA_HOME") or shutil.which("java") or ""
    stats = ((file, file.stat()) for file in class_path)
    return _digest(
        [os.path.realpath(java), *(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)]
    )


def _digest(words: list[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


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
    """Start Spark, do a little of what runs do, and end: the JVM writes the archive as it exits."""
    from pyspark.sql import DataFrame
    from pyspark.sql import functions as F

    from tidemill.execution.session import build_session

    options = f"-XX:TieredStopAtLevel=1 -XX:ArchiveClassesAtExit={path}"
    settings = {"spark.driver.memory": "600m", "spark.driver.extraJavaOptions": options}
    spark = build_session("tidemill-classes", master="local[2]", settings=settings)
    with tempfile.TemporaryDirectory() as scratch:
        events = Path(scratch, "in")
        events.mkdir()
        (events / "1.json").write_text('{"id": 1, "at": "2024-01-01T00:00:00Z"}\n', encoding="utf-8")

        def batch(frame: DataFrame, number: int) -> None:
            frame.withColumn("day", F.to_date("w.start")).write.partitionBy("day").parquet(
                f"{scratch}/{number}"
            )

        frame = (
            spark.readStream.schema("id INT, at TIMESTAMP").json(str(events)).withWatermark("at", "1 hour")
        )
        counted = frame.groupBy(F.window("at", "1 hour").alias("w")).count()
        writer = counted.writeStream.foreachBatch(batch).option("checkpointLocation", f"{scratch}/checkpoint")
        writer.trigger(availableNow=True).start().awaitTermination()
        table = spark.read.parquet(f"{scratch}/0")
        table.exceptAll(table).write.format("delta").save(f"{scratch}/delta")
    spark.stop()


if __name__ == "__main__":
    _load_what_runs_load(sys.argv[1])
