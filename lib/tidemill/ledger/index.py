"""The index: coverage as of some version, kept in a file beside the checkpoint.

It only saves time. Deleted, it is rebuilt from the log; older than the log, the rest is folded on top.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from tidemill.ledger import coverage as folds
from tidemill.ledger import log
from tidemill.ledger.coverage import Coverage, Shape

_FORMAT = 2


def read(table: str, state: str, shape: Shape) -> Coverage:
    """The table's coverage now: the index, and on top of it what the log holds since.

    Writes nothing. Raises :class:`StateError` when neither reaches far enough back.
    """
    base = _load(state, shape)
    if base is not None and not log.exists(table):
        base = None
    base = base or Coverage()
    return folds.fold_all(base, log.commits_after(table, base.version, shape.grain), shape)


def refresh(table: str, state: str, shape: Shape, known: Coverage | None = None) -> Coverage:
    """As :func:`read`, from ``known`` when given, and the index brought up to date, atomically."""
    if known is None:
        current = read(table, state, shape)
    else:
        current = folds.fold_all(known, log.commits_after(table, known.version, shape.grain), shape)
    if current.version >= 0:
        write(state, shape, current)
    return current


def write(state: str, shape: Shape, coverage: Coverage) -> None:
    """Replace the index by ``coverage``; readers see the old file or the new one."""
    path = _path(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"format": _FORMAT, "shape": _key(shape), "coverage": folds.as_json(coverage)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(body, separators=(",", ":")), encoding="utf-8")
    temporary.replace(path)


def _load(state: str, shape: Shape) -> Coverage | None:
    try:
        body = json.loads(_path(state).read_text(encoding="utf-8"))
        if body["format"] != _FORMAT or body["shape"] != _key(shape):
            return None
        return folds.from_json(body["coverage"])
    except (OSError, ValueError, KeyError, TypeError):
        # Absent, torn or of another format: the log has it all.
        return None


def _path(state: str) -> Path:
    return Path(state) / "index.json"


def _key(shape: Shape) -> str:
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:16]
