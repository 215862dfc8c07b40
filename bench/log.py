"""What a table's log says of its stream: when each batch was committed. The same measure for every writer."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any


def commit_times(table: Path) -> dict[int, int]:
    """Batch number to commit time (epoch milliseconds), of tidemill's batches or of Spark's own sink's."""
    times: dict[int, int] = {}
    for path in sorted((table / "_delta_log").glob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith('{"commitInfo"'):
                info = json.loads(line)["commitInfo"]
                batch = _batch(info)
                if batch is not None:
                    times[batch] = int(info["timestamp"])
    return times


def batch_ms(table: Path, batches: int, *, drop: int = 2) -> list[int]:
    """How long each of the first ``batches`` batches took, commit to commit, the first ``drop`` left out.

    Raises ValueError when a batch is missing.
    """
    times = commit_times(table)
    missing = sorted(set(range(batches)) - times.keys())
    if missing:
        msg = f"the log has no commit of batch {missing[0]}"
        raise ValueError(msg)
    return [after - before for before, after in pairwise(times[b] for b in range(max(drop, 1) - 1, batches))]


def _batch(info: dict[str, Any]) -> int | None:
    if info.get("operation") == "STREAMING UPDATE":
        return int(info["operationParameters"]["epochId"])
    fact = json.loads(info.get("userMetadata") or "{}")
    return int(fact.get("batch", 0)) if fact.get("kind") == "live" else None
