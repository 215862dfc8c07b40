"""Where the first stream of an event store began to read topics: Spark's note of it is lost with the checkpoint."""

from __future__ import annotations

import json
from typing import Any

from tidemill.ledger import inputs
from tidemill.ledger.whole import replace_text
from tidemill.model import Pipeline
from tidemill.storage import place


def note_begin(pipeline: Pipeline, name: str, number: int) -> None:
    """Keep where the first of a store's streams began to read an input."""
    path, known = place(pipeline.table.state_path) / "begins.json", begins(pipeline)
    if name not in known:
        found = inputs.first_offsets(f"{pipeline.table.state_path}/checkpoint", number)
        replace_text(path, json.dumps({**known, name: found}))


def begins(pipeline: Pipeline) -> dict[str, Any]:
    """Where the first stream of an event store began, by input, by topic and partition; of those that were noted."""
    path = place(pipeline.table.state_path) / "begins.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
