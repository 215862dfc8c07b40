"""Whether this machine has what tidemill needs, asked without starting Spark."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidemill.config import load_project
from tidemill.errors import TidemillError
from tidemill.execution import jars
from tidemill.execution.java import usable_java
from tidemill.execution.same_keys import check_keys
from tidemill.execution.settings import LOCAL, given, is_local

_OLDEST_PYTHON = (3, 11)
_ENOUGH_DISK = 2 * 1024**3  # bytes: a day of the demo takes some MB, a shuffle that spills takes the rest
_FILE_SYSTEM = "spark.hadoop.fs.file.impl"


@dataclass(frozen=True, slots=True)
class Check:
    """One answer: ``detail`` is what was found, ``next_step`` what to do about it, empty when ``ok``."""

    name: str
    ok: bool
    detail: str
    next_step: str = ""


def checks(tables: Path | None = None) -> list[Check]:
    """Every check, in the order in which to mend them.

    ``tables`` is the folder that tables go under; default the project's ``data``. Starts no JVM beyond one
    ``java -version``, and leaves no file behind. A check that cannot be made is a failed check, not an error.
    """
    place = tables or (jars.project_folder() or Path.cwd()) / "data"
    asked: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("java", _java),
        ("versions", _versions),
        ("jars", _jars),
        ("local file system", _local_file_system),
        ("table folder", lambda: _writable(place)),
        ("disk", lambda: _disk(place)),
        ("time zones", _time_zones),
        ("keys", lambda: _keys(place.parent)),
    ]
    return [_answer(name, ask) for name, ask in asked]


def _answer(name: str, ask: Callable[[], Check]) -> Check:
    try:
        return ask()
    except TidemillError as problem:
        return Check(name, ok=False, detail=problem.message, next_step=problem.next_step)
    except OSError as problem:
        return Check(name, ok=False, detail=str(problem), next_step="see the message of the system")


def _python() -> Check:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} ({sys.executable})"
    ok = sys.version_info >= _OLDEST_PYTHON
    return Check("python", ok, found, "" if ok else "install Python 3.11 or newer, then `make setup`")


def _java() -> Check:
    java, release = usable_java()
    return Check("java", ok=True, detail=f"{release} ({java})")


def _versions() -> Check:
    """Whether the Python packages fit each other and the pinned jars."""
    try:
        found = {name: version(name) for name in ("pyspark", "delta-spark", "deltalake")}
    except PackageNotFoundError as problem:
        return Check("versions", ok=False, detail=str(problem), next_step="run `make setup`")
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    delta_jar = next(jar.coordinate for jar in jars.load_lock().jars if ":delta-spark_" in jar.coordinate)
    # io.delta:delta-spark_4.2_2.13:4.4.0 was built for Spark 4.2 and belongs to the Python package 4.4.0.
    _, artifact, jar_version = delta_jar.split(":")
    spark_line = artifact.split("_")[1]
    fits = (
        found["delta-spark"] == jar_version
        and found["pyspark"].startswith(f"{spark_line}.")
        and _numbers(found["deltalake"]) >= (1, 6, 6)
    )
    wanted = f"pyspark {spark_line}.x, delta-spark {jar_version}, deltalake 1.6.6 or newer"
    return Check("versions", fits, detail, "" if fits else f"tidemill needs {wanted}: run `make setup`")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def _jars() -> Check:
    place = jars.folder()
    lock = jars.load_lock()
    if jars.is_complete(place, lock):
        return Check("jars", ok=True, detail=f"{len(lock.jars)} of {len(lock.jars)} in {place}")
    there = sum((place / jar.file).is_file() for jar in lock.jars)
    detail = f"{there} of {len(lock.jars)} in {place}, or of another version"
    return Check("jars", ok=False, detail=detail, next_step="run `python -m tidemill.execution.jars`")


def _local_file_system() -> Check:
    """Whether a local session gets the file system that forks no process for each file."""
    said = given(None)
    if not is_local(said.get("spark.master", "local[*]")):
        return Check("local file system", ok=True, detail="not used: the master is not local")
    active = said.get(_FILE_SYSTEM, LOCAL[_FILE_SYSTEM])
    ok = active == LOCAL[_FILE_SYSTEM]
    step = f"remove {_FILE_SYSTEM} from the settings: each log file of a batch costs 45 ms instead of 2 ms"
    return Check("local file system", ok, active, "" if ok else step)


def _nearest(place: Path) -> Path:
    return next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())


def _writable(place: Path) -> Check:
    there = _nearest(place)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as problem:
        step = f"give this user the right to write under {there}, or choose another path for the sinks"
        return Check("table folder", ok=False, detail=f"{there}: {problem.strerror}", next_step=step)
    return Check("table folder", ok=True, detail=str(place))


def _disk(place: Path) -> Check:
    free = shutil.disk_usage(_nearest(place)).free
    ok = free >= _ENOUGH_DISK
    step = "" if ok else f"free some space: below {_ENOUGH_DISK / 1024**3:.0f} GB a spilling shuffle can fail"
    return Check("disk", ok, f"{free / 1024**3:.1f} GB free", step)


def _keys(root: Path) -> Check:
    """Whether the keys of persons are there that the project's pipelines have sealed with."""
    if not (root / "conf" / "pipelines").is_dir():
        return Check("keys", ok=True, detail="no project here")
    pipelines = load_project(root).pipelines.values()
    sealing = [each for each in pipelines if any(read.personal for read in each.inputs.values())]
    for each in sealing:
        check_keys(each, note=False)
    names = ", ".join(each.name for each in sealing)
    return Check("keys", ok=True, detail=f"those of {names}" if names else "no pipeline has personal fields")


def _time_zones() -> Check:
    """Whether local times of sources can be understood; UTC itself needs no data."""
    try:
        ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        step = "install the system's tzdata, or `pip install tzdata`"
        return Check("time zones", ok=False, detail="no time zone data", next_step=step)
    return Check(
        "time zones", ok=True, detail=f"found; this machine's TZ is {os.environ.get('TZ') or 'unset'}"
    )
