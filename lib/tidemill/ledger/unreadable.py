"""Files that could not be read at all and were set aside, whole: a list beside the checkpoint.

The quarantine holds a row for each of them, committed before the file is put on the list; the list is what sources
leave out. Deleted, it is made again as the files fail again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from tidemill.errors import StateError


def read(state: str) -> dict[str, dict[str, str]]:
    """The files that were set aside, by input; each path with its reason."""
    try:
        body: dict[str, dict[str, str]] = json.loads(_path(state).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise StateError(
            f"{_path(state)} is torn",
            next_step="delete it: files that cannot be read are found again",
            file=str(_path(state)),
        ) from None
    return body


def add(state: str, name: str, path: str, reason: str) -> None:
    """Put a file of an input on the list; readers see the old list or the new one."""
    known: Mapping[str, Mapping[str, str]] = read(state)
    body = {**known, name: {**known.get(name, {}), path: reason}}
    target = _path(state)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    fresh.write_text(json.dumps(body, indent=1), encoding="utf-8")
    fresh.replace(target)


def _path(state: str) -> Path:
    return Path(state) / "unreadable.json"
