"""The index: coverage as of some version, kept in a file beside the checkpoint.

It only saves time. Deleted, it is rebuilt from the log; older than the log, the rest is folded on top. It
names the last commit it holds, so that an index of another table, or of one restored from a copy, is not taken
for this one's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tidemill.ledger import coverage as folds
from tidemill.ledger import log
from tidemill.ledger.coverage import Coverage, Shape
from tidemill.ledger.whole import replace_text

_FORMAT = 3


def read(table: str, state: str, shape: Shape) -> Coverage:
    """The table's coverage now: the index, and on top of it what the log holds since.

    Writes nothing. Raises :class:`StateError` when neither reaches far enough back.
    """
    base = _load(table, state, shape) or Coverage()
    return folds.fold_all(base, log.commits_after(table, base.version, shape.grain), shape)


def refresh(table: str, state: str, shape: Shape, known: Coverage | None = None) -> Coverage:
    """As :func:`read`, from ``known`` when given, and the index brought up to date, atomically."""
    if known is None:
        current = read(table, state, shape)
    else:
        current = folds.fold_all(known, log.commits_after(table, known.version, shape.grain), shape)
    if current.version >= 0:
        write(table, state, shape, current)
    return current


def write(table: str, state: str, shape: Shape, coverage: Coverage) -> None:
    """Replace the index by ``coverage``; readers see the old file or the new one."""
    body = {
        "format": _FORMAT,
        "shape": _key(shape),
        "last": _digest(log.commit_text(table, coverage.version)),
        "coverage": folds.as_json(coverage),
    }
    replace_text(_path(state), json.dumps(body, separators=(",", ":")))


def _load(table: str, state: str, shape: Shape) -> Coverage | None:
    try:
        body = json.loads(_path(state).read_text(encoding="utf-8"))
        if body["format"] != _FORMAT or body["shape"] != _key(shape):
            return None
        coverage = folds.from_json(body["coverage"])
        return coverage if _fits(table, coverage.version, body["last"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Absent, torn or of another format: the log has it all.
        return None


def _fits(table: str, version: int, last: str | None) -> bool:
    text = log.commit_text(table, version)
    if text is not None:
        return last in (None, _digest(text))
    # A commit that is gone was cleaned up, if the log goes on after it.
    return (log.last_version(table) or -1) > version


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(state: str) -> Path:
    return Path(state) / "index.json"


def _key(shape: Shape) -> str:
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:16]
