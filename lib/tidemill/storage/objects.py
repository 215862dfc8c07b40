"""A place on a store, with those methods of :class:`pathlib.Path` that tidemill uses.

A folder is nothing but the beginning of its objects' names. An object is written whole or not at all, and seen by everyone
once it is. What a store answers instead becomes :class:`StoreError`, with the bucket and what to do.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tidemill.errors import StoreError
from tidemill.storage import clients
from tidemill.storage.failures import Unknown, explained, passing

_TRIES = 5
_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Status:
    """What a listing says of an object."""

    st_size: int
    st_mtime_ns: int

    @property
    def st_mtime(self) -> float:
        """When it was written, in epoch seconds."""
        return self.st_mtime_ns / 1e9


@dataclass(frozen=True, order=True, slots=True)
class ObjectPath:
    """``s3://bucket/key``: an object, or a folder of objects. What a listing told of it is not asked for again."""

    bucket: str
    key: str
    seen: Status | None = field(default=None, compare=False, repr=False)
    folder: bool = field(default=False, compare=False, repr=False)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, part: str) -> ObjectPath:
        return ObjectPath(self.bucket, f"{self.key}/{part}" if self.key else part)

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The name's ending, with its dot."""
        return self.name[len(self.stem) :]

    @property
    def stem(self) -> str:
        """The name without its ending."""
        head, dot, _ = self.name.rpartition(".")
        return head if dot and head else self.name

    @property
    def parent(self) -> ObjectPath:
        """The folder that it is in."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def read_bytes(self) -> bytes:
        """The object's content. Raises FileNotFoundError."""
        import obstore

        with self._asking():
            return bytes(obstore.get(self._store, self.key).bytes())

    def read_text(self, encoding: str = "utf-8") -> str:
        """The object's content as text. Raises FileNotFoundError."""
        return self.read_bytes().decode(encoding)

    def read_tagged(self) -> tuple[str, str | None] | None:
        """The content, and the tag of this very state of it; None where there is no object."""
        import obstore

        try:
            with self._asking():
                found = obstore.get(self._store, self.key)
                return bytes(found.bytes()).decode(), found.meta["e_tag"]
        except FileNotFoundError:
            return None

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Make ``text`` the object, whole."""
        import obstore

        with self._writing():
            obstore.put(self._store, self.key, text.encode(encoding))

    def create(self, text: str) -> bool:
        """Make ``text`` the object where there is none; False where there is one.

        Raises :class:`Unknown` when there is one that an attempt whose reply was lost may have written.
        """
        return self._exclusive(text, "create")

    def replace_tagged(self, text: str, tag: str) -> bool:
        """Make ``text`` the object in place of the state with this tag; False where there is another. As :meth:`create`."""
        return self._exclusive(text, {"e_tag": tag})

    def _exclusive(self, text: str, mode: Any) -> bool:
        # Not by the client: it repeats a request whose reply was lost, and takes its own object for somebody else's.
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        lost: Exception | None = None
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE * 2**attempt)
            try:
                obstore.put(clients.client(self.bucket).once, self.key, text.encode(), mode=mode)
            except (AlreadyExistsError, PreconditionError) as error:
                if "409 Conflict" in str(error):
                    lost = lost or error  # two at once, and neither is there for certain
                    continue
                if lost is None:
                    return False
                raise Unknown(f"{self}: the reply to a write was lost", path=str(self)) from None
            except (BaseError, OSError) as error:
                if not passing(error):
                    raise explained(error, self.bucket, self.key) from error
                lost = error
            else:
                return True
        assert lost is not None  # noqa: S101  every other way leaves the loop
        raise explained(lost, self.bucket, self.key) from lost

    def check_conditions(self) -> None:
        """Raise :class:`StoreError` where the store ignores the conditions of writes; asked once a bucket and process."""
        kept = clients.client(self.bucket).kept
        if kept.is_set():
            return
        probe = self / f"probe-{secrets.token_hex(8)}"
        probe.write_text("1")
        try:
            if not (
                _refused(lambda: probe.create("2")) and _refused(lambda: probe.replace_tagged("3", '"other"'))
            ):
                raise StoreError(
                    f"s3://{self.bucket}: the store ignores the conditions of writes (If-None-Match, If-Match)",
                    next_step="two writers would overwrite each other: use a store, or a release of it, that keeps them",
                    path=str(self),
                    bucket=self.bucket,
                )
        finally:
            probe.unlink()
        kept.set()

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return self.seen is not None or self._head() is not None

    def is_dir(self) -> bool:
        """Whether there is an object below."""
        return self.folder or next(iter(self.below()), None) is not None

    def stat(self) -> Status:
        """Size and time. Raises FileNotFoundError."""
        found = self.seen or self._head()
        if found is None:
            raise FileNotFoundError(str(self))
        return found

    def _head(self) -> Status | None:
        import obstore

        try:
            with self._asking():
                return _status(obstore.head(self._store, self.key))
        except FileNotFoundError:
            return None

    def iterdir(self) -> Iterator[ObjectPath]:
        """The objects and folders right below; none where there is nothing."""
        import obstore

        with self._asking():
            found = obstore.list_with_delimiter(self._store, self.key)
        for prefix in found["common_prefixes"]:
            yield ObjectPath(self.bucket, prefix, folder=True)
        for meta in found["objects"]:
            if meta["path"] != self.key:
                yield ObjectPath(self.bucket, meta["path"], seen=_status(meta))

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Those right below whose name fits."""
        return (each for each in self.iterdir() if fnmatchcase(each.name, pattern))

    def below(self, after: str = "") -> Iterator[tuple[str, int, int]]:
        """The objects below, at any depth: path from here, size, time (epoch milliseconds). ``after``: beyond this path."""
        import obstore

        offset = f"{self.key}/{after}" if after else None
        with self._asking():
            for chunk in obstore.list(self._store, self.key, offset=offset):
                for meta in chunk:
                    if meta["path"] != self.key:
                        status = _status(meta)
                        yield (
                            meta["path"][len(self.key) + 1 :],
                            status.st_size,
                            status.st_mtime_ns // 1_000_000,
                        )

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete the object; a store does not say whether there was one."""
        del missing_ok
        import obstore

        with self._writing():
            obstore.delete(self._store, self.key)

    def remove_tree(self) -> None:
        """Delete the object, and all that are below."""
        import obstore

        with self._writing():
            names = [self.key, *(f"{self.key}/{path}" for path, _, _ in self.below())]
            for start in range(0, len(names), 1000):
                obstore.delete(self._store, names[start : start + 1000])

    def upload(self, file: Path) -> None:
        """Make what a file on this machine holds the object, whole; a large one in parts."""
        import obstore

        with self._writing():
            obstore.put(self._store, self.key, file)

    def open(self) -> io.BufferedReader:
        """The object to be read from any place, in parts. Raises FileNotFoundError."""
        return io.BufferedReader(_Reader(self, self.stat().st_size), 1 << 16)

    def range(self, start: int, end: int) -> bytes:
        """A part of the object."""
        import obstore

        with self._asking():
            return bytes(obstore.get_range(self._store, self.key, start=start, end=end))

    @property
    def _store(self) -> Any:
        return clients.client(self.bucket).store

    @contextmanager
    def _asking(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            # A bucket that is not there must not pass for an empty one.
            if "NoSuchBucket" in str(error):
                raise explained(error, self.bucket, self.key) from error
            raise
        except (BaseError, OSError) as error:
            raise explained(error, self.bucket, self.key) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._asking():
                yield
        except FileNotFoundError as error:
            raise explained(error, self.bucket, self.key) from error


def _refused(write: Callable[[], bool]) -> bool:
    try:
        return not write()
    except Unknown:
        return True  # refused, after a reply was lost


class _Reader(io.RawIOBase):
    """Ranges of an object, as a file."""

    def __init__(self, path: ObjectPath, size: int) -> None:
        self._path, self._size, self._at = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, into: Any) -> int:
        end = min(self._at + len(into), self._size)
        if end <= self._at:
            return 0
        into[: end - self._at] = self._path.range(self._at, end)
        got, self._at = end - self._at, end
        return got


def _status(meta: Any) -> Status:
    return Status(meta["size"], int(meta["last_modified"].timestamp() * 1000) * 1_000_000)
