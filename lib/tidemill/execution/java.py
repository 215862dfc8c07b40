"""Finding a Java that Spark can run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tidemill.errors import EnvironmentProblem

OLDEST = 17
"""Spark 4 runs on Java 17 and 21; its launcher needs the module ``jdk.incubator.vector``, which a JRE has."""

INSTALL = (
    "install a Java runtime, for example `apt-get install openjdk-17-jre-headless`, "
    "`dnf install java-21-openjdk-headless` or `brew install openjdk@17`, or point JAVA_HOME at one"
)

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find_java() -> Path:
    """The ``java`` that Spark will use: the one in ``JAVA_HOME`` if that is set, else the first on PATH.

    A ``JAVA_HOME`` without a ``bin/java`` is a mistake that Spark would trip over too, so it is not passed over
    in favour of PATH.

    Raises:
        EnvironmentProblem: there is none; ``params`` say where it was looked for.
    """
    home = os.environ.get("JAVA_HOME")
    if home:
        java = Path(home) / "bin" / "java"
        if not java.is_file():
            raise EnvironmentProblem("JAVA_HOME holds no bin/java", next_step=INSTALL, java_home=home)
        return java
    found = shutil.which("java")
    if found is None:
        raise EnvironmentProblem("Java was not found on PATH", next_step=INSTALL)
    return Path(found)


def major_version(banner: str) -> int | None:
    """The feature release that ``java -version`` names, or None if it names none.

    >>> major_version('openjdk version "17.0.15" 2025-04-15'), major_version('java version "1.8.0_292"')
    (17, 8)
    """
    match = _VERSION.search(banner)
    return int(match.group(1)) if match else None


def usable_java() -> tuple[Path, int]:
    """The Java that Spark will use and its feature release, which is at least :data:`OLDEST`.

    Starts ``java -version``: some 50 ms.

    Raises:
        EnvironmentProblem: there is none, it does not run, or it is too old.
    """
    java = find_java()
    try:
        ran = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise EnvironmentProblem(f"{java} does not run: {problem}", next_step=INSTALL) from problem
    version = major_version(ran.stderr + ran.stdout)
    if ran.returncode != 0 or version is None:
        raise EnvironmentProblem(
            f"`{java} -version` exited with {ran.returncode}", next_step=INSTALL, output=ran.stderr.strip()
        )
    if version < OLDEST:
        raise EnvironmentProblem(
            f"Java {version} is too old, Spark needs {OLDEST} or newer", next_step=INSTALL, java=java
        )
    return java, version
