"""One commit of a Delta table's log: its actions as text, and putting it there whole or not at all.

Source: the Delta transaction protocol, "Delta Log Entries" and "Actions". A commit is a file named by its version,
which nobody may write twice. The text is written beside it under another name and linked to that name: a link
fails when the name is taken, and shows the whole text or nothing. On a store it is a conditional write of that name.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tidemill.ledger import log
from tidemill.protocol import Point, passing
from tidemill.storage import ObjectPath, Place, check_conditions

_PLAIN = "/=:@!$&'()*+,;-._~"
"""What a path may hold unescaped in the log, besides letters and digits (RFC 3986, pchar)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A data file in a commit: ``path`` as the log writes it, partition values as the protocol writes them."""

    path: str
    size: int
    values: Mapping[str, str]
    modified: int
    stats: str | None = None


def as_logged(path: str) -> str:
    """A path below the table's root as the log writes it."""
    return quote(path, safe=_PLAIN)


def text(
    add: Iterable[Entry],
    remove: Iterable[Entry],
    *,
    metadata: str,
    app: tuple[str, int] | None,
    at: int,
    partition_by: str,
) -> str:
    """The commit: its fact, its application transaction, the files that come and those that go; a line each.

    ``at``: when, in epoch milliseconds.
    """
    info = {
        "timestamp": at,
        "operation": "WRITE",
        "operationParameters": {
            "mode": "Append",
            "partitionBy": json.dumps([partition_by] if partition_by else []),
        },
        "engineInfo": "tidemill",
        "userMetadata": metadata,
    }
    lines: list[dict[str, Any]] = [{"commitInfo": info}]
    if app is not None:
        lines.append({"txn": {"appId": app[0], "version": app[1], "lastUpdated": at}})
    lines += [
        {"add": {**_common(each), "modificationTime": each.modified, "stats": each.stats}} for each in add
    ]
    lines += [
        {"remove": {**_common(each), "deletionTimestamp": at, "extendedFileMetadata": True}}
        for each in remove
    ]
    return "\n".join(json.dumps(line, separators=(",", ":")) for line in lines) + "\n"


def _common(entry: Entry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "partitionValues": dict(entry.values),
        "size": entry.size,
        "dataChange": True,
    }


def put(table: str, version: int, body: str) -> bool:
    """Make ``body`` the commit ``version``; False when there is one already. A crash leaves it there or not.

    Raises OSError when the file system has no room, or no hard links; :class:`~tidemill.storage.Unknown` when the store's
    reply was lost and there is one, ours or another's; :class:`~tidemill.errors.StoreError` when the store ignores the
    condition, by which one of two writers would lose its commit without a word.
    """
    target = _path(table, version)
    if isinstance(target, ObjectPath):
        check_conditions(table)
        passing(Point.COMMIT_WRITTEN)
        return target.create(body)
    fresh = target.with_name(f"_commit_{secrets.token_hex(8)}.json.tmp")
    fresh.write_text(body, encoding="utf-8")
    passing(Point.COMMIT_WRITTEN)
    try:
        target.hardlink_to(fresh)
    except FileExistsError:
        return False
    finally:
        fresh.unlink(missing_ok=True)
    return True


def is_newest(table: str, version: int) -> bool:
    """Whether no commit follows ``version``.

    The next one would be the next file. Upkeep removes old files first, and never the last: as long as our own
    version's is there, or no later one is, a next one that is not there has not been removed either.
    """
    if _path(table, version + 1).is_file():
        return False
    return _path(table, version).is_file() or (log.last_version(table) or 0) <= version


def actions(body: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The actions of a commit: name and content."""
    for line in body.splitlines():
        if line.strip():
            yield from json.loads(line).items()


def _path(table: str, version: int) -> Place:
    return log.log_folder(table) / f"{version:020d}.json"
