"""Which files of a table a Delta stream has read between two of its offsets, by the rules of Delta's own source.

- An offset names a version and a place in it; the files up to there have been read. A batch reads what lies after one offset
  up to another, wherever in a version those are.
- The files of a commit are numbered as its log has them, from 0. Those that only rearrange rows (``dataChange`` false) have
  no number, and of a commit that takes rows away none has: the stream skips it.
- A stream that does not begin at a version begins with the table as it stands. Those files are numbered by time of
  modification, then path, and offsets among them say ``isStartingVersion``.

Whether a file still belongs to the table does not matter: what was read is read again by what the log said of it then.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tidemill.errors import StateError
from tidemill.ledger import log
from tidemill.ledger.inputs import delta_version_of

T = TypeVar("T")
Add = Mapping[str, Any]
"""The body of an ``add`` in a table's log."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Files of a table as it stood at ``version``, by their numbers: from ``first`` on, up to ``end`` without it.

    ``end`` None: all the others.
    """

    version: int
    first: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The files between two offsets. ``version``: the newest of which there may be one."""

    version: int
    standing: Standing | None
    adds: tuple[Add, ...]


def admitted(table: str, start: Any, end: Any, begun: int | None = None) -> Admitted:
    """The files of ``table`` that a stream which skips changes reads from one offset to another.

    ``start`` None: from where it began, which is the version ``begun``, or the table as it stood. Reads the commits between.
    Raises :class:`StateError` where one of those is gone from the log.
    """
    version, place, whole = _from(start, end, begun)
    newest, last, standing = int(end["reservoirVersion"]), int(end["index"]), None
    if (version, place) == (newest, last):
        return Admitted(delta_version_of(end), None, ())
    if whole:
        standing = Standing(version, max(place, -1) + 1, last + 1 if version == newest else None)
        version, place = version + 1, -1
    adds: list[Add] = []
    for number in range(version, delta_version_of(end) + 1):
        after, until = place if number == version else -1, last if number == newest else None
        adds += [
            add
            for index, add in enumerate(_numbered(table, number))
            if index > after and (until is None or index <= until)
        ]
    return Admitted(delta_version_of(end), standing, tuple(adds))


def _from(start: Any, end: Any, begun: int | None) -> tuple[int, int, bool]:
    """The version and place after which files are read, and whether that place is in the table as it stood."""
    if start is not None:
        return int(start["reservoirVersion"]), int(start["index"]), bool(start.get("isStartingVersion"))
    if begun is not None:
        return begun, -1, False
    # Where the first batch went on past the table as it stood, Delta takes the table before the end's version for that.
    return int(end["reservoirVersion"]) - (not end.get("isStartingVersion")), -1, True


def _numbered(table: str, version: int) -> list[Add]:
    """The files that a commit adds, as the stream numbers them."""
    text = log.commit_text(table, version)
    if text is None:
        raise StateError(
            f"commit {version} of {table} is gone from its log, and rows that a batch has read of it are wanted again",
            next_step="put it back from a copy, and let that table keep its log for longer (delta.logRetentionDuration)",
            table=table,
            version=version,
        )
    changes = list(_changes(text))
    if any(kind == "remove" for kind, _ in changes):
        return []
    return [body for _, body in changes]


def _changes(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in text.splitlines():
        if line.lstrip("{ \t").startswith(('"add"', '"remove"')):
            ((kind, body),) = json.loads(line).items()
            if body.get("dataChange", True):
                yield kind, body


def each_once(files: Iterable[tuple[str, T]]) -> list[list[T]]:
    """Files, with their paths, in as many lists as it takes for none to hold a path twice; one at least.

    A file may come again: restored, or with other rows of it deleted. Delta knows one deletion vector of a file in a scan.

    >>> each_once([("a", 1), ("b", 2), ("a", 3)])
    [[1, 2], [3]]
    """
    lists: list[list[T]] = [[]]
    times: Counter[str] = Counter()
    for path, file in files:
        if times[path] == len(lists):
            lists.append([])
        lists[times[path]].append(file)
        times[path] += 1
    return lists
