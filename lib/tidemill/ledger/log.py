"""Reads facts from a Delta log's commit files, without Spark and without a table snapshot.

The Delta protocol names commit N ``_delta_log/%020d.json``: one JSON action a line, the first of them
usually ``commitInfo``. Commits are immutable, so what was read once need not be read again.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from tidemill.errors import PlanError, StateError
from tidemill.intervals import ALL_LABEL, Grain, interval_at, parse_moment
from tidemill.ledger.facts import Commit, Fact, Foreign, Rearranged, from_json
from tidemill.storage import ObjectPath, Place, place

_NEAR = 50
"""So many commits back one is looked for that was made just now: others may have come after it."""


def log_folder(table: str) -> Place:
    """Where a table's commits are."""
    return place(table) / "_delta_log"


def exists(table: str) -> bool:
    """Whether a table has been created."""
    folder = log_folder(table)
    return folder.is_dir() and first_version(table) is not None


def first_version(table: str) -> int | None:
    """The oldest commit file that is still there; None when there is none."""
    return min(_versions(table), default=None)


def last_version(table: str) -> int | None:
    """The newest commit; None when there is none."""
    return max(_versions(table), default=None)


def _versions(table: str, after: int = -1) -> Iterator[int]:
    folder = log_folder(table)
    if isinstance(folder, ObjectPath):
        # A store lists a long log page by page, and from any name on.
        listed = (path for path, _, _ in folder.below(f"{after:020d}.json" if after >= 0 else ""))
        stems = (path.removesuffix(".json") for path in listed if path.endswith(".json"))
    else:
        stems = (path.stem for path in folder.glob("*.json"))
    return (int(stem) for stem in stems if stem.isdigit() and int(stem) > after)


def commits_after(table: str, version: int, grain: Grain) -> Iterator[Commit]:
    """Every commit of ``table`` from ``version + 1`` on, in log order, with the fact that it carries.

    One that is not tidemill's gives :class:`Foreign` when it changes rows, :class:`Rearranged` when it does not.

    Raises :class:`StateError` when the log does not hold ``version + 1`` and holds later ones, or has a gap.
    """
    current = version + 1
    while True:
        text = commit_text(table, current)
        if text is None:
            later = list(_versions(table, current))
            # A writer may have committed between the two looks.
            if not later or (text := commit_text(table, current)) is None:
                if later:
                    _refuse_gap(table, current, min(later))
                return
        yield _parse(text, current, grain)
        current += 1


def commit_at(table: str, version: int, grain: Grain) -> Commit | None:
    """One commit, with its fact; None when it is not there."""
    text = commit_text(table, version)
    return None if text is None else _parse(text, version, grain)


def commit_text(table: str, version: int) -> str | None:
    """One commit file, whole; None when it is not there."""
    try:
        return (log_folder(table) / f"{version:020d}.json").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def holds(table: str, version: int) -> bool:
    """Whether a commit's file is there."""
    return (log_folder(table) / f"{version:020d}.json").is_file()


def digest(table: str, version: int) -> str | None:
    """What tells a commit from another of the same number; None when it is not there."""
    text = commit_text(table, version)
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:16]


def goes_on_from(table: str, version: int, known: str | None) -> bool:
    """Whether the log is the one whose commit ``version`` had the digest ``known``, or may be: it was cleaned up."""
    found = digest(table, version)
    if found is not None:
        return known in (None, found)
    # A commit that is gone was cleaned up, if the log goes on after it.
    return (last_version(table) or -1) > version


def version_at(table: str, at: int) -> int | None:
    """The newest version that was committed at or before ``at`` (epoch milliseconds); None where the log has none.

    Reads some twenty commits of a million.
    """
    versions = sorted(_versions(table))
    found = bisect.bisect_right(versions, at, key=lambda version: _committed_at(table, version))
    return versions[found - 1] if found else None


def _committed_at(table: str, version: int) -> int:
    for line in (commit_text(table, version) or "").splitlines():
        if line.lstrip("{ \t").startswith('"commitInfo"'):
            return int(json.loads(line)["commitInfo"].get("timestamp") or 0)
    return 0


def rows_written(table: str, app: str, version: int) -> int | None:
    """The rows that Spark wrote in the newest commit of an application's version, by its own account; None where it has none."""
    for number in sorted(_versions(table), reverse=True)[:_NEAR]:
        actions = [json.loads(line) for line in (commit_text(table, number) or "").splitlines()]
        found = {kind: body for action in actions for kind, body in action.items()}
        done = found.get("txn", {})
        if (done.get("appId"), done.get("version")) == (app, version):
            rows = found.get("commitInfo", {}).get("operationMetrics", {}).get("numOutputRows")
            return None if rows is None else int(rows)
    return None


def removed_since(table: str, at: int) -> set[str]:
    """Paths of the files that commits have removed since ``at`` (epoch milliseconds), as the log writes them."""
    found = set()
    for version in sorted(_versions(table), reverse=True):
        path = log_folder(table) / f"{version:020d}.json"
        if path.stat().st_mtime_ns // 1_000_000 < at:
            break
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.lstrip("{ \t").startswith('"remove"'):
                found.add(str(json.loads(line)["remove"]["path"]))
    return found


def _refuse_gap(table: str, version: int, first: int) -> None:
    raise StateError(
        f"the log of {table} goes on at version {first}, and version {version} is wanted",
        next_step="restore index.json or cleaned.json in the pipeline's state folder",
        table=table,
        version=version,
        first=first,
    )


def _parse(text: str, version: int, grain: Grain) -> Commit:
    actions = text.splitlines()
    # commitInfo first: a tidemill commit is recognised without parsing its file actions.
    for line in actions:
        if line.lstrip("{ \t").startswith('"commitInfo"'):
            info = json.loads(line)["commitInfo"]
            fact = from_json(info.get("userMetadata")) or _foreign(actions, info, grain)
            return Commit(version, int(info.get("timestamp") or 0), fact)
    return Commit(version, 0, _foreign(actions, {}, grain))


def _foreign(actions: list[str], info: dict[str, Any], grain: Grain) -> Fact:
    operation = str(info.get("operation", "another writer"))
    labels: set[str] = set()
    replaced = unknown = False
    for line in actions:
        if not line.lstrip("{ \t").startswith(('"add"', '"remove"')):
            continue
        ((kind, action),) = json.loads(line).items()
        if not action.get("dataChange", True):
            continue
        replaced |= kind == "remove"
        if grain is Grain.ALL:
            labels.add(ALL_LABEL)
            continue
        try:
            # The protocol writes null as an empty text or as null.
            labels.add(interval_at(grain, parse_moment(action["partitionValues"][grain.column])).label)
        except (KeyError, TypeError, AttributeError, PlanError):
            unknown = True
    if unknown:
        return Foreign(operation, None, replaced)
    return Foreign(operation, tuple(sorted(labels)), replaced) if labels else Rearranged()


def only_appended(table: str, after: int, until: int) -> bool:
    """Whether the commits after one version, up to another, took no row away; False where one is gone from the log."""
    for version in range(after + 1, until + 1):
        text = commit_text(table, version)
        if text is None:
            return False
        removes = (json.loads(line)["remove"] for line in text.splitlines() if line.startswith('{"remove"'))
        if any(each.get("dataChange", True) for each in removes):
            return False
    return True


def past_changes(table: str, version: int) -> int:
    """The newest version that a stream of appends, having read ``version`` in full, will find nothing new in.

    Such a stream passes over commits that replace rows, and those that only rearrange files. A pin may
    stand there: it holds the same appends, and the replacements besides.
    """
    while True:
        try:
            text = (log_folder(table) / f"{version + 1:020d}.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return version
        changes = [line for line in text.splitlines() if line.startswith(('{"add"', '{"remove"'))]
        parsed = [next(iter(json.loads(line).items())) for line in changes]
        kinds = {kind for kind, action in parsed if action.get("dataChange", True)}
        if kinds == {"add"}:
            return version
        version += 1
