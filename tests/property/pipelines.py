"""The example pipelines of the law, all over one pair of folders of events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.property.histories import MOST_VALUE
from tidemill.config import Project, parse_pipeline
from tidemill.model import Pipeline

KINDS = (
    "stateless", "tumbling", "sliding", "sessions", "dedup", "joined", "named", "newest", "chained", "both",
    "gaps", "model",
)  # fmt: skip
CARRIED = ("totals", "last")
"""Those whose state goes from interval to interval without bound. They take no provisional rows, and no bootstrap."""
TWO_INPUTS = frozenset({"joined", "chained", "both"})
RULED = {"stateless": "drop", "tumbling": "quarantine", "newest": "quarantine"}
"""The kinds whose code keeps the events it wants by rules, and what those do with the others."""
_SCHEMA = "id STRING, key STRING, value BIGINT, at TIMESTAMP"
_HERE = "tests.property.transforms"
# A chain of repeats is at most as long as a history has events, 20 minutes apart.
_LONGEST_CHAIN = "15h"

_SPECIAL: dict[str, dict[str, Any]] = {
    "stateless": {"interval": "hour", "transform": ["mapped"], "rules": {"events": "drop"}},
    "tumbling": {
        "interval": {"grain": "day", "column": "start"},
        "transform": ["tumbling"],
        "rules": {"events": "quarantine"},
    },
    "sliding": {
        "interval": {"grain": "day", "column": "start"},
        "transform": ["keep_{code}", "sliding"],
        "lookahead": "3h",
    },
    "sessions": {
        "interval": {"grain": "day", "column": "start"},
        "transform": ["keep_{code}", "sessions"],
        "lookback": "20m",
        "lookahead": _LONGEST_CHAIN,
    },
    "dedup": {"transform": ["keep_{code}", "dedup"], "lookback": "20m", "lookahead": _LONGEST_CHAIN},
    # The bound is inclusive, a reach is half open: a moment more than the 30 minutes.
    "joined": {"transform": ["join_{code}"], "lookback": "1h", "lookahead": "31m"},
    "named": {"transform": ["named_{code}"]},
    "model": {"interval": "all", "transform": ["keep_{code}"], "mode": "upsert"},
    "newest": {"transform": [], "mode": "upsert", "rules": {"": "quarantine"}},
    "chained": {
        "interval": {"grain": "day", "column": "start"},
        "transform": ["join_{code}", "tumbling"],
        "lookback": "1h",
        "lookahead": "31m",
    },
    "gaps": {"transform": ["keep_{code}", "gaps"], "lookback": "2h"},
    "totals": {"transform": ["keep_{code}", "totals"], "chunk": 2},
    "last": {"interval": "hour", "transform": ["keep_{code}", "last"], "chunk": 3},
    "both": {"interval": {"grain": "day", "column": "start"}, "transform": ["both_{code}", "tumbling"]},
}


def project(root: Path, code: str, kinds: tuple[str, ...] = KINDS, files_per_batch: int = 1) -> Project:
    """A project of these kinds, with one version of their code."""
    return Project(str(root), {kind: pipeline(root, kind, code, files_per_batch) for kind in kinds})


def pipeline(root: Path, kind: str, code: str, files_per_batch: int = 1) -> Pipeline:
    """One kind of pipeline over ``in/events``, and for those that join, ``in/others`` or ``in/names``."""
    special = dict(_SPECIAL[kind])
    sources = {"events": _files("events", files_per_batch)}
    if kind in TWO_INPUTS:
        # Another patience: the watermark is the lesser of two.
        late = {"column": "at", "watermark": "2 hours"}
        sources["others"] = {**_files("others", files_per_batch), "event_time": late}
    if kind == "named":
        names = {"path": "in/names", "format": "json", "schema": "key STRING, name STRING"}
        sources["names"] = {"files": names, "static": True}
    sink: dict[str, Any] = {"path": f"tables/{kind}", "mode": special.pop("mode", "append")}
    if sink["mode"] == "upsert":
        sink |= {"key": ["key"], "order_by": ["value", "at", "id"]}
    rules = {of: _unwanted(code, action) for of, action in special.pop("rules", {}).items()}
    steps = [f"{_HERE}:{step.format(code=code)}" for step in special.pop("transform")]
    values = {
        "name": kind,
        "sources": sources,
        "event_time": {"column": "at", "watermark": "1 hour"},
        "interval": "day",
        "transform": steps,
        "sink": {"delta": sink},
        "trigger": {"available_now": True},
        "quality": {"suite": rules.pop("", None), "inputs": rules},
        "spark": {"spark.sql.shuffle.partitions": "1"},
        **special,
    }
    return parse_pipeline(values, root)


def _unwanted(code: str, action: str) -> dict[str, Any]:
    """A suite that leaves out what :func:`tests.property.transforms.keep_a` and ``keep_b`` do."""
    values = [v for v in range(MOST_VALUE + 1) if (v % 3 == 0 if code == "a" else v % 4 == 1)]
    kwargs = {"column": "value", "value_set": values}
    each = {
        "type": "expect_column_values_to_not_be_in_set",
        "kwargs": kwargs,
        "meta": {"action": action},
        "id": code,
    }
    return {"name": "unwanted", "expectations": [each]}


def _files(name: str, files_per_batch: int) -> dict[str, Any]:
    files = {
        "path": f"in/{name}",
        "format": "json",
        "schema": _SCHEMA,
        "max_files_per_batch": files_per_batch,
    }
    return {"files": files}
