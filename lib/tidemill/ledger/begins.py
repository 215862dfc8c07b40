"""Where the first of an event store's streams began to read topics, beside its checkpoint: Spark's note of it is lost with that."""

from __future__ import annotations

import json
from typing import Any

from tidemill.ledger import inputs
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place


def note(state: str, name: str, number: int) -> None:
    """Keep where the stream of one input, Spark's source ``number``, began, unless that of an earlier one is known."""
    known = read(state)
    if name not in known:
        found = inputs.first_offsets(f"{state}/checkpoint", number)
        replace_text(_path(state), json.dumps({**known, name: found}))


def read(state: str) -> dict[str, Any]:
    """What is known, by input, topic and partition."""
    path = _path(state)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _path(state: str) -> Place:
    return place(state) / "begins.json"
