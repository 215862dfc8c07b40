"""Where the keys of persons are: outside of every table, and the one place that an erasure changes."""

from __future__ import annotations

import os
import secrets
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidemill.erasure.seal import KEY_BYTES
from tidemill.errors import StateError

_AT_ONCE = 500  # SQLite's bound parameters have a limit
_BLOCK = 1 << 20
NOT_THERE = ""
"""What a store is named by that was not made yet, or is lost."""


class KeyStore(ABC):
    """A key for each subject: made when it is first asked for, kept, and erased once and for all.

    A store is sent to the processes that seal and open, so it is a value that can be pickled: what it connects to is made
    where it is used. It keeps no keys between calls: it lives as long as its process, and a key may be erased meanwhile.
    ``keys`` may be called by several at a time, for the same subjects; all must get the same keys.
    """

    @abstractmethod
    def keys(self, subjects: Collection[str]) -> dict[str, bytes | None]:
        """The keys of all these subjects, of :data:`KEY_BYTES` bytes; None for one that was erased."""

    @abstractmethod
    def known(self, subjects: Collection[str]) -> dict[str, bytes | None]:
        """As :meth:`keys`, and makes none: a subject that never had one is left out."""

    @abstractmethod
    def erase(self, subject: str) -> bool:
        """Forget a subject's key, for good; later ones get none. Gives whether there was one."""

    def named(self) -> str | None:
        """What tells this store from one that was made in its place; :data:`NOT_THERE` before it is made. None: nothing does.

        Asked before and after each batch by streams.
        """
        return None

    def subjects(self, *, erased: bool) -> Collection[str] | None:  # noqa: ARG002  whoever tells, tells both
        """All who were ``erased``, or else all who have keys: so is found who has one again in a store that was put back from a
        backup. None: it does not tell.
        """
        return None


@dataclass(frozen=True, slots=True)
class FileKeys(KeyStore):
    """Keys in one file of SQLite, which is made when it is first needed, readable for its owner alone.

    What is erased is overwritten in the file, and in its journal beside it. Copies of them, as backups and file systems that
    never write in place keep them, still have the key: they have to go, too.
    Processes of one machine may use it at a time; for a cluster write a store of your own.
    Raises :class:`StateError` where the file is none of keys.

    >>> import tempfile
    >>> keys = FileKeys(f"{tempfile.mkdtemp()}/keys.db")
    >>> keys.keys(["ada"]) == keys.keys(["ada"]), keys.erase("ada"), keys.keys(["ada"])
    (True, True, {'ada': None})
    """

    path: str

    def keys(self, subjects: Collection[str]) -> dict[str, bytes | None]:
        """See :class:`KeyStore`."""
        wanted = set(subjects)
        missing = wanted - self.known(wanted).keys()
        if missing or not Path(self.path).is_file():
            made = [(each, secrets.token_bytes(KEY_BYTES)) for each in sorted(missing)]
            with self._open() as file, file:
                # Another may have made one meanwhile: the first stays.
                file.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", made)
        return self.known(wanted)

    def known(self, subjects: Collection[str]) -> dict[str, bytes | None]:
        """See :class:`KeyStore`."""
        wanted = sorted(set(subjects))
        found: dict[str, bytes | None] = {}
        if not Path(self.path).is_file():
            return found
        with self._open() as file:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                marks = ", ".join("?" * len(some))
                found |= dict(file.execute(f"SELECT subject, key FROM keys WHERE subject IN ({marks})", some))
        return found

    def erase(self, subject: str) -> bool:
        """See :class:`KeyStore`."""
        with self._open() as file, file:
            had = file.execute(
                "SELECT 1 FROM keys WHERE subject = ? AND key IS NOT NULL", [subject]
            ).fetchone()
            file.execute(
                "INSERT INTO keys VALUES (?, NULL) ON CONFLICT (subject) DO UPDATE SET key = NULL", [subject]
            )
        with self._open() as file:
            _blank(file, Path(f"{self.path}-journal"))
        return had is not None

    def named(self) -> str | None:
        """See :class:`KeyStore`. Makes no file."""
        if not Path(self.path).is_file():
            return NOT_THERE
        with self._open() as file:
            try:
                found = file.execute("SELECT name FROM store").fetchone()
            except sqlite3.OperationalError:  # it has no such table yet
                found = None
            if found is None:
                with file:
                    file.execute("CREATE TABLE IF NOT EXISTS store (only INTEGER PRIMARY KEY, name TEXT)")
                    file.execute("INSERT OR IGNORE INTO store VALUES (1, ?)", [secrets.token_hex(16)])
                found = file.execute("SELECT name FROM store").fetchone()
            return str(found[0])

    def subjects(self, *, erased: bool) -> Collection[str] | None:
        """See :class:`KeyStore`."""
        if not Path(self.path).is_file():
            return ()
        with self._open() as file:
            which = "IS NULL" if erased else "IS NOT NULL"
            return [each for (each,) in file.execute(f"SELECT subject FROM keys WHERE key {which}")]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = Path(self.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            with closing(sqlite3.connect(path, timeout=60)) as file:
                # What is deleted is overwritten with zeros. The journal has pages as they were: it is kept, to be overwritten,
                # for what is unlinked is on the disk still.
                file.execute("PRAGMA secure_delete = ON")
                file.execute("PRAGMA journal_mode = PERSIST")
                file.execute(
                    "CREATE TABLE IF NOT EXISTS keys (subject TEXT PRIMARY KEY, key BLOB) WITHOUT ROWID"
                )
                yield file
        except (sqlite3.DatabaseError, OSError) as error:
            raise StateError(
                f"the keys in {path} cannot be used: {error}",
                next_step="look at the file; without its keys nothing that was sealed can be read",
                file=str(path),
            ) from error


def _blank(file: sqlite3.Connection, journal: Path) -> None:
    """Overwrite what the journal has of earlier transactions, while nobody is in one, who might need it."""
    file.execute("BEGIN EXCLUSIVE")
    try:
        if journal.exists():
            with journal.open("r+b") as pages:
                size = os.fstat(pages.fileno()).st_size
                for start in range(0, size, _BLOCK):
                    pages.write(bytes(min(_BLOCK, size - start)))
                pages.flush()
                os.fsync(pages.fileno())
    finally:
        file.execute("ROLLBACK")
