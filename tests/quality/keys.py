"""What tests of unique values ask, and what Python counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

UNIQUE, COMPOUND = "expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique"


def unique(within: str | None, action: str = "warn", **kwargs: Any) -> dict[str, Any]:
    type_ = COMPOUND if "column_list" in kwargs else UNIQUE
    meta = {"action": action, **({"within": within} if within else {})}
    return {"type": type_, "kwargs": kwargs or {"column": "id"}, "meta": meta}


def counts(rows: Iterable[Mapping[str, Any]], *columns: str) -> tuple[int, int, int]:
    """Rows, those with a key, those whose key another row has, too."""
    keys = [tuple(row[name] for name in columns) for row in rows]
    there = [key for key in keys if any(part is not None for part in key)]
    times = Counter(there)
    return len(keys), len(there), sum(times[key] > 1 for key in there)
