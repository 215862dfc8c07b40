"""Reads facts from a Delta log's commit files, without Spark and without a table snapshot.

The Delta protocol names commit N ``_delta_log/%020d.json``: one JSON action a line, the first of them
usually ``commitInfo``. Commits are immutable, so what was read once need not be read again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidemill.errors import StateError
from tidemill.intervals import Grain, interval_at, parse_moment
from tidemill.ledger.facts import Commit, Fact, Foreign, from_json


def log_folder(table: str) -> Path:
    """Where a table's commits are."""
    return Path(table) / "_delta_log"


def exists(table: str) -> bool:
    """Whether a table has been created."""
    folder = log_folder(table)
    return folder.is_dir() and first_version(table) is not None


def first_version(table: str) -> int | None:
    """The oldest commit file that is still there; None when there is none."""
    versions = (int(p.stem) for p in log_folder(table).glob("*.json") if p.stem.isdigit())
    return min(versions, default=None)


def commits_after(table: str, version: int, grain: Grain) -> Iterator[Commit]:
    """Every commit of ``table`` with a fact in it, from ``version + 1`` on, in log order.

    Commits that only rearrange files (compaction) or change metadata carry no fact and are passed over;
    one that changes rows and is not tidemill's gives :class:`Foreign`.

    Raises :class:`StateError` when the log no longer reaches back to ``version + 1``.
    """
    folder = log_folder(table)
    current = version + 1
    while True:
        try:
            text = (folder / f"{current:020d}.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            if current == version + 1 and (first_version(table) or 0) > current:
                _refuse_gap(table, current)
            return
        commit = _parse(text, current, grain)
        if commit is not None:
            yield commit
        current += 1


def _refuse_gap(table: str, version: int) -> None:
    first = first_version(table)
    raise StateError(
        f"the log of {table} begins at version {first}, and version {version} is wanted",
        next_step="restore the index in the pipeline's state folder, or backfill the whole table",
        table=table,
        version=version,
        first=first,
    )


def _parse(text: str, version: int, grain: Grain) -> Commit | None:
    actions = text.splitlines()
    # commitInfo first: a tidemill commit is recognised without parsing its file actions.
    for line in actions:
        if line.startswith('{"commitInfo"'):
            info = json.loads(line)["commitInfo"]
            fact = from_json(info.get("userMetadata"))
            if fact is not None:
                return Commit(version, int(info.get("timestamp", 0)), fact)
            foreign = _foreign(actions, info, grain)
            return None if foreign is None else Commit(version, int(info.get("timestamp", 0)), foreign)
    foreign = _foreign(actions, {}, grain)
    return None if foreign is None else Commit(version, 0, foreign)


def _foreign(actions: list[str], info: dict[str, Any], grain: Grain) -> Fact | None:
    operation = str(info.get("operation", "another writer"))
    labels: set[str] = set()
    replaced = unknown = False
    for line in actions:
        if not line.startswith(('{"add"', '{"remove"')):
            continue
        ((kind, action),) = json.loads(line).items()
        if not action.get("dataChange", True):
            continue
        replaced |= kind == "remove"
        value = (action.get("partitionValues") or {}).get(grain.column)
        if value is None:
            unknown = True
        else:
            labels.add(interval_at(grain, parse_moment(str(value))).label)
    if unknown:
        return Foreign(operation, None, replaced)
    return Foreign(operation, tuple(sorted(labels)), replaced) if labels else None
