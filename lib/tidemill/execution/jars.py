"""The JVM's half of the dependencies: pinned in ``jars.lock``, fetched once, then passed to Spark as files.

Resolving at each start of a session costs seconds, and Ivy's cache is unsafe between processes. So the jars are
fetched once into a folder by the Ivy that pyspark bundles, checked against their SHA-256, and used from there.
Run as ``python -m tidemill.execution.jars`` this module fetches what is missing and prints the files' paths.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from xml.sax.saxutils import quoteattr

from tidemill.errors import EnvironmentProblem, TidemillError
from tidemill.execution.java import usable_java

MARKER = ".complete"
_RESOLVE_TIMEOUT = 900  # seconds: 23 MB over a slow line, not a hang for ever


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file: ``group:name:version``, the name it is stored under, and its SHA-256 in hex."""

    coordinate: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Lock:
    """The pinned jars, and the digest of the text they were read from."""

    jars: tuple[Jar, ...]
    digest: str


Resolve = Callable[[Sequence[Jar], Path], None]
"""Puts the named jars, unchecked, into a folder that is the caller's alone."""


def parse_lock(text: str) -> Lock:
    """The pins of a ``jars.lock``, in its order, which is the order on the class path."""
    entries = tomllib.loads(text)["jar"]
    return Lock(tuple(Jar(**entry) for entry in entries), hashlib.sha256(text.encode()).hexdigest())


def load_lock() -> Lock:
    """The pins that this version of tidemill was tested with."""
    return parse_lock(resources.files(__package__).joinpath("jars.lock").read_text(encoding="utf-8"))


def project_folder(start: Path | None = None) -> Path | None:
    """The nearest folder, from ``start`` (else the working directory) upwards, that holds a project."""
    here = start or Path.cwd()
    for folder_ in (here, *here.parents):
        if (folder_ / "conf").is_dir() or (folder_ / "pyproject.toml").is_file():
            return folder_
    return None


def folder(start: Path | None = None) -> Path:
    """Where the jars live: ``TIDEMILL_JARS``, else the project's ``.jars``, else the user's cache."""
    told = os.environ.get("TIDEMILL_JARS")
    if told:
        return Path(told).expanduser().absolute()
    project = project_folder(start)
    return project / ".jars" if project else Path.home() / ".cache" / "tidemill" / "jars"


def is_complete(target: Path, lock: Lock) -> bool:
    """Whether the folder was filled from this very lock and still has every file; hashes nothing."""
    try:
        filled_from = (target / MARKER).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
    return filled_from == lock.digest and all((target / jar.file).is_file() for jar in lock.jars)


def fetch(target: Path, *, lock: Lock | None = None, resolve: Resolve | None = None) -> list[Path]:
    """The pinned jars as files under ``target``, fetched first if they are not there.

    - A complete folder is recognised by its marker, which holds the digest of the lock: a no-op in milliseconds,
      without Java.
    - No file reaches ``target`` under its own name before its SHA-256 fits; the marker is written last.
    - Processes that fetch at once do not meet: each resolves into a hidden folder of its own, with its own Ivy
      cache, and renames over the other's identical files. A JVM that has the old file open keeps it.

    Raises:
        EnvironmentProblem: Java or the network is missing, the folder cannot be written, or a file does not
            fit its SHA-256; nothing that was there before is changed.
    """
    lock = lock or load_lock()
    if not is_complete(target, lock):
        try:
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target) as hidden:
                staged = Path(hidden)
                (resolve or resolve_with_ivy)(lock.jars, staged)
                _verify(lock.jars, staged)
                _publish(lock, staged, target)
        except OSError as problem:
            raise EnvironmentProblem(
                f"the jars could not be written to {target}: {problem}",
                next_step="free the disk or set TIDEMILL_JARS to a folder that can be written",
            ) from problem
    return [target / jar.file for jar in lock.jars]


def _verify(jars: Sequence[Jar], staged: Path) -> None:
    for jar in jars:
        try:
            with (staged / jar.file).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError as problem:
            raise EnvironmentProblem(
                f"{jar.coordinate} did not arrive as {jar.file}",
                next_step="check that the coordinate and the file name in jars.lock belong together",
                coordinate=jar.coordinate,
            ) from problem
        if found != jar.sha256:
            raise EnvironmentProblem(
                f"{jar.file} has SHA-256 {found}, the lock says {jar.sha256}; it was thrown away",
                next_step="fetch again; if it stays, something between here and the repository changes files",
                coordinate=jar.coordinate,
                found=found,
                expected=jar.sha256,
            )


def _publish(lock: Lock, staged: Path, target: Path) -> None:
    for jar in lock.jars:
        (staged / jar.file).replace(target / jar.file)
    marker = staged / MARKER
    marker.write_text(lock.digest, encoding="ascii")
    marker.replace(target / MARKER)


def resolve_with_ivy(jars: Sequence[Jar], staged: Path) -> None:
    """Downloads the jars, and only them, with the Ivy that pyspark bundles; ``staged`` holds its cache too."""
    java, _ = usable_java()
    wanted = staged / "ivy.xml"
    wanted.write_text(_ivy_module(jars), encoding="utf-8")
    settings = staged / "ivysettings.xml"
    settings.write_bytes(resources.files(__package__).joinpath("ivysettings.xml").read_bytes())
    command = [
        str(java),
        *("-jar", str(_bundled_ivy())),
        *("-settings", str(settings)),
        *("-ivy", str(wanted)),
        *("-cache", str(staged / "cache")),
        *("-confs", "default"),
        *("-types", "jar", "bundle"),
        *("-retrieve", str(staged / "[artifact]-[revision].[ext]")),
    ]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_RESOLVE_TIMEOUT)
    except subprocess.TimeoutExpired as problem:
        raise EnvironmentProblem(
            f"fetching the jars took longer than {_RESOLVE_TIMEOUT} s",
            next_step="check the network, then again",
        ) from problem
    if ran.returncode != 0:
        raise EnvironmentProblem(
            "the jars could not be fetched from Maven Central",
            next_step="check the network (behind a proxy: JAVA_TOOL_OPTIONS=-Dhttps.proxyHost=...), or copy the whole "
            ".jars folder of another machine and point TIDEMILL_JARS at it",
            output="\n".join((ran.stdout + ran.stderr).splitlines()[-15:]),
        )
    shutil.rmtree(staged / "cache", ignore_errors=True)


def _ivy_module(jars: Sequence[Jar]) -> str:
    def dependency(jar: Jar) -> str:
        org, name, rev = (quoteattr(part) for part in jar.coordinate.split(":"))
        # Not transitive: what is not in the lock does not come in.
        return f'<dependency org={org} name={name} rev={rev} conf="default->master" transitive="false"/>'

    return (
        '<ivy-module version="2.0"><info organisation="tidemill" module="jars"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{''.join(map(dependency, jars))}</dependencies></ivy-module>"
    )


def _bundled_ivy() -> Path:
    # Found without importing pyspark, which would take longer than all the rest of a no-op.
    spec = importlib.util.find_spec("pyspark")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        for jar in sorted(Path(place, "jars").glob("ivy-*.jar")):
            return jar
    raise EnvironmentProblem("pyspark, which brings Ivy, is not installed", next_step="run `make setup`")


def main() -> int:
    """Fetches what is missing, prints one path a line; exit code 2 with the reason on stderr if it cannot."""
    try:
        paths = fetch(folder())
    except TidemillError as problem:
        sys.stderr.write(f"tidemill: {problem}\n")
        return problem.exit_code
    sys.stdout.writelines(f"{path}\n" for path in paths)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
