"""What an installed package is now: the version of its distribution, and what its files hold.

Transforms of installed packages count by name. An event store's domain counts by what it is: the states that it has made are of
its code, and go on from the events where that is another. Nothing is imported.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from tidemill.config.source import find_module

_NOT_THE_DOMAIN = frozenset(
    {"tidemill", "pyspark", "pydantic", "pydantic_core", "deltalake", *sys.stdlib_module_names}
)
"""What says how a domain is run, and not what it decides."""


def packages(files: Iterable[Path], root: str) -> list[str]:
    """The installed packages, by name, that modules of a project import anywhere."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    return sorted(name for name in found - _NOT_THE_DOMAIN if not _is_local(name, root))


def described(package: str, root: str) -> str:
    """What a package is now: the same text as long as it is the same code."""
    path = find_module(package, root)
    if path is None:
        return f"{package}: no source"
    files = sorted(_files(path))
    stamp = tuple((str(each), each.stat().st_mtime_ns, each.stat().st_size) for each in files)
    return f"{package} {_version(str(_top(path).parent), _top(path).name)} {_hashed(stamp)}"


def _is_local(name: str, root: str) -> bool:
    local = Path(root, name)
    return local.with_suffix(".py").is_file() or local.is_dir()


def _top(path: Path) -> Path:
    """What is installed: a package's folder, or a module alone."""
    return path.parent if path.name == "__init__.py" else path


def _files(path: Path) -> Iterator[Path]:
    top = _top(path)
    if top == path:
        yield path
        return
    yield from (each for each in top.rglob("*") if each.is_file() and "__pycache__" not in each.parts)


@lru_cache(maxsize=64)
def _hashed(stamp: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stamp:
        digest.update(hashlib.sha256(Path(name).read_bytes()).digest())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=64)
def _version(folder: str, name: str) -> str:
    """The version of the distribution that has brought ``name`` into a folder; "" where none says so."""
    for record in sorted(Path(folder).glob("*.dist-info/RECORD")):
        lines = record.read_text(encoding="utf-8").splitlines()
        if any(line.startswith((f"{name}/", f"{name},")) for line in lines):
            return record.parent.name.removesuffix(".dist-info")
    return ""
