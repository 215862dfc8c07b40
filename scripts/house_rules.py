"""Rules of this house that no linter knows; prints each breach as ``file:line: rule`` and exits 1 if there is one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400  # lines of a file in lib/: beyond it has two subjects

# The dots are escaped, so the patterns do not name what they look for.
REGISTRY = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|repo1?\.maven(?:\.apache)?\.org|repository\.apache\.org"
    r"|repos\.spark-packages\.org|conda\.anaconda\.org|registry\.npmjs\.org|proxy\.golang\.org)\b"
)
MACHINE_PATH = re.compile(r"(?<![\w.$}{~*)/-])/(?:root|home|Users|work|workspace|private|tmp)/\w")
SLEEP = re.compile(r"\btime\.sleep\(")


def files() -> Iterator[Path]:
    """What git tracks, and what it would: new files count before they are added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607  git is git
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in sorted(set(filter(None, listed.stdout.split("\0")))):
        path = ROOT / name
        if path.is_file():
            yield path


def breaches(path: Path) -> Iterator[str]:
    """The breaches in one file, as ``line: rule``."""
    name = path.relative_to(ROOT)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return  # a picture or an archive
    for number, line in enumerate(lines, start=1):
        if found := REGISTRY.search(line):
            yield f"{number}: names a package registry's host ({found.group()})"
        if found := MACHINE_PATH.search(line):
            yield f"{number}: names a path of one machine ({found.group()}...)"
        if name.parts[0] == "tests" and SLEEP.search(line):
            yield f"{number}: sleeps in a test; wait for the thing itself, or drive a Clock"
    if name.parts[0] == "lib" and path.suffix == ".py" and len(lines) > LONGEST:
        yield f"{len(lines)}: longer than {LONGEST} lines; split it by subject"


def main() -> int:
    """Checks every file."""
    try:
        found = [f"{path.relative_to(ROOT)}:{breach}" for path in files() for breach in breaches(path)]
    except (OSError, subprocess.CalledProcessError):
        sys.stderr.write("house rules need git and its checkout: they hold for tracked files\n")
        return 2
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
