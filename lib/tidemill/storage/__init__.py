"""Where tables, checkpoints and ledgers are: a local file system, or a bucket of an S3-compatible store.

A place on a file system is a :class:`pathlib.Path`, and nothing stands between. A place on a store is an
:class:`ObjectPath`, which has those methods of a path that tidemill uses. Code that names places by :func:`place` works on
both; what differs in kind is a function here.
"""

from __future__ import annotations

import math
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tidemill.errors import ConfigError
from tidemill.storage.clients import delta_options, use
from tidemill.storage.failures import Unknown, of_deltalake
from tidemill.storage.objects import ObjectPath

__all__ = [
    "ObjectPath",
    "Place",
    "Unknown",
    "check_conditions",
    "delta_options",
    "local_path",
    "missing",
    "newest",
    "of_deltalake",
    "on_a_store",
    "parquet",
    "place",
    "read_texts",
    "remove_tree",
    "uri",
    "use",
    "walk",
    "writing",
]

Place = Path | ObjectPath
"""A file or a folder, wherever it is."""

_AT_ONCE = 16
_STORES = ("s3://", "s3a://")


@dataclass(frozen=True, slots=True)
class File:
    """A file below a folder: ``path`` from there, size in bytes, when it was written (epoch milliseconds)."""

    path: str
    size: int
    modified: int


def on_a_store(path: str) -> bool:
    """Whether a path is one of an object store."""
    return path.startswith("s3://")


def place(path: str) -> Place:
    """The place that a path means. Raises :class:`ConfigError` for a scheme that tidemill does not know."""
    if on_a_store(path):
        bucket, _, key = path.removeprefix("s3://").partition("/")
        return ObjectPath(bucket, key.strip("/"))
    if "://" in path:
        raise ConfigError(
            f"{path}: tables and their ledgers are on a file system, or on s3://",
            next_step="name a path, or s3://BUCKET/PATH",
            path=path,
        )
    return Path(path)


def check_conditions(table: str) -> None:
    """Raise :class:`StoreError` where a table is on a store that ignores the conditions of writes.

    Asked before the first write of a process into a bucket; its probe stands in the table's hidden folder meanwhile.
    """
    at = place(table)
    if isinstance(at, ObjectPath):
        (at / "_tidemill").check_conditions()


def uri(path: str) -> str:
    """A path as Spark writes it, which is as Java does: other alphabets stay, blanks and brackets do not.

    >>> uri("s3://bucket/my in/ü%[1].json"), uri("/in/a b=(c).json")
    ('s3://bucket/my%20in/ü%25%5B1%5D.json', 'file:///in/a%20b=(c).json')
    """
    scheme, _, rest = path.rpartition("://")
    bucket, slash, key = rest.partition("/") if scheme else ("", "", str(Path(rest).absolute()))
    return f"{scheme or 'file'}://{bucket}{slash}{''.join(map(_quoted, key))}"


def _quoted(char: str) -> str:
    if char.isascii():
        return quote(char, safe="/;:@&=+$,_-!.~'()*")
    return quote(char) if unicodedata.category(char) in {"Zs", "Zl", "Zp", "Cc"} else char


def local_path(uri: str) -> str:
    """The path that a URI of Spark's means: a ``file:`` one a path, one of a store the name that the store has.

    >>> local_path("file:/in/a%20b"), local_path("s3://bucket/in/a%20b")
    ('/in/a b', 's3://bucket/in/a b')
    """
    # Not urlsplit, which cuts a path at ? and #, and takes out line ends.
    if uri.startswith(_STORES):
        scheme, _, rest = uri.partition("://")
        return f"{scheme}://{unquote(rest)}"
    parsed = urlsplit(uri)
    return unquote(parsed.path) if parsed.scheme == "file" else uri


def walk(folder: Place) -> Iterator[File]:
    """The files below a folder, always in the same order; none where there is no folder. Hidden ones (``_``, ``.``) not, nor
    what is below hidden folders.
    """
    if isinstance(folder, ObjectPath):
        found = (File(path, size, at) for path, size, at in folder.below() if not _hidden(path))
        yield from sorted(found, key=lambda file: file.path)
        return
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in sorted(names):
            if not name.startswith((".", "_")):
                status = Path(at, name).stat()
                path = os.path.relpath(os.path.join(at, name), folder)  # noqa: PTH118  many files, and each a string
                yield File(path, status.st_size, status.st_mtime_ns // 1_000_000)


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def newest(folder: Place) -> float:
    """When anything at or below a place was written last (epoch seconds).

    On a store, infinite where there is nothing with content: Hadoop's empty marks of folders are no file that was left.
    """
    if isinstance(folder, ObjectPath):
        times = [at / 1000 for _, size, at in folder.below() if size]
        return max([*times, *([folder.stat().st_mtime] if folder.is_file() else [])], default=math.inf)
    return max((p.stat().st_mtime for p in (folder, *folder.rglob("*"))), default=0.0)


def remove_tree(at: Place) -> None:
    """Remove a file, or a folder with all that is in it; what is not there is no error."""
    if isinstance(at, ObjectPath):
        at.remove_tree()
    elif at.is_dir():
        shutil.rmtree(at, ignore_errors=True)
    else:
        at.unlink(missing_ok=True)


def missing(root: str, paths: Sequence[str]) -> list[str]:
    """Those of the files ``paths``, below ``root``, that are not there."""
    folder = place(root)
    if isinstance(folder, ObjectPath):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            there = pool.map(lambda path: (folder / path).is_file(), paths)
            return [path for path, found in zip(paths, there, strict=True) if not found]
    return [path for path in paths if not (folder / path).is_file()]


def read_texts(files: Sequence[Place]) -> Iterator[str]:
    """The texts of files, in their order; on a store several are fetched ahead."""
    if files and isinstance(files[0], ObjectPath):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(lambda file: file.read_text(encoding="utf-8"), files)
        return
    for file in files:
        yield file.read_text(encoding="utf-8")


@contextmanager
def writing(at: Place) -> Iterator[Path]:
    """A path to write a new file to: when this ends it is at that place; on a store whole, or, where this fails, not at all."""
    if isinstance(at, ObjectPath):
        with TemporaryDirectory(prefix="tidemill-") as folder:
            local = Path(folder) / at.name
            yield local
            at.upload(local)
        return
    at.parent.mkdir(parents=True, exist_ok=True)
    yield at


def parquet(file: Place) -> Any:
    """A file as pyarrow's readers take it."""
    return file.open() if isinstance(file, ObjectPath) else str(file)
