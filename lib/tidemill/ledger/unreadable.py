"""Files that could not be read at all and were set aside, whole: a list beside the checkpoint.

The quarantine holds a row for each of them, committed before the file is put on the list; the list is what sources
leave out. Lost, it is made again by a pipeline without a live stream, as the files fail again; beside a live stream a
backfill stops at each of them by name, until the list is back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tidemill.errors import StateError
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place


def read(state: str) -> dict[str, dict[str, str]]:
    """The files that were set aside, by input; each path with its reason."""
    try:
        body: dict[str, dict[str, str]] = json.loads(_path(state).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise StateError(
            f"{_path(state)} is torn",
            next_step="write it again, {input: {path: reason}}, from the quarantine's rows whose record is a file",
            file=str(_path(state)),
        ) from None
    return body


def add(state: str, name: str, path: str, reason: str) -> None:
    """Put a file of an input on the list; readers see the old list or the new one."""
    known: Mapping[str, Mapping[str, str]] = read(state)
    body = {**known, name: {**known.get(name, {}), path: reason}}
    replace_text(_path(state), json.dumps(body, indent=1))


def _path(state: str) -> Place:
    return place(state) / "unreadable.json"
