"""How many values of each column are null, interval by interval: read from statistics, never from rows. No JVM."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from tidemill.sinks.files import DataFile
from tidemill.sinks.tables import Table
from tidemill.storage import Place, parquet, place

_PHYSICAL = "delta.columnMapping.physicalName"
_Place = tuple[str, ...]
Nulls = Mapping[str, int | None]
"""Nulls by column; None where no statistics tell."""


def nulls_by_label(table: Table, files: Iterable[DataFile]) -> dict[str, Nulls]:
    """The nulls of each interval in these files, column by column.

    Columns within structs are ``outer.inner``. Nothing is told of lists and maps, of a column that shares its name with
    a field of a struct, of a file that is gone, and of one of which a deletion vector hides rows.
    """
    places = _places(table)
    found: dict[str, dict[str, int | None]] = {}
    for file in files:
        counts = (
            _logged(file.action, places) if file.action else _measured(place(table.path) / file.path, places)
        )
        total = found.setdefault(file.label, dict.fromkeys(places, 0))
        for name, more in counts.items():
            before = total[name]
            total[name] = None if before is None or more is None else before + more
    return dict(found)


def _places(table: Table) -> dict[str, _Place]:
    """Every column that may have statistics, with its place in the files; an empty one where they cannot tell it."""
    columns = [(".".join(name), place) for name, place in _columns(table.schema["fields"])]
    times = Counter(name for name, _ in columns)
    return {name: place if times[name] == 1 else () for name, place in columns if name != table.grain.column}


def _columns(
    fields: Sequence[Mapping[str, Any]], above: _Place = (), within: _Place = ()
) -> Iterator[tuple[_Place, _Place]]:
    for field in fields:
        name = (*above, field["name"])
        place = (*within, (field.get("metadata") or {}).get(_PHYSICAL, field["name"]))
        kind = field["type"]
        if isinstance(kind, dict) and kind["type"] == "struct":
            yield from _columns(kind["fields"], name, place)
        else:
            yield name, () if isinstance(kind, dict) else place


def _measured(path: Place, places: Mapping[str, _Place]) -> Nulls:
    """By the footer of a parquet file."""
    try:
        metadata = pq.read_metadata(parquet(path))
    except FileNotFoundError:
        return dict.fromkeys(places)
    leaves = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    where = {leaf: i for i, leaf in enumerate(leaves) if leaves.count(leaf) == 1}
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]

    def nulls(place: _Place) -> int | None:
        leaf = ".".join(place)
        if place and not any(each == leaf or each.startswith(f"{leaf}.") for each in leaves):
            # The file is older than the column: nothing but nulls is read of it.
            return int(metadata.num_rows)
        if not place or leaf not in where:
            return None
        chunks = [group.column(where[leaf]).statistics for group in groups]
        if any(chunk is None or not chunk.has_null_count for chunk in chunks):
            return None
        return sum(int(chunk.null_count) for chunk in chunks)

    return {name: nulls(place) for name, place in places.items()}


def _logged(action: str, places: Mapping[str, _Place]) -> Nulls:
    """By the statistics in a Delta action of Spark's writer."""
    add = json.loads(action)["add"]
    if add.get("deletionVector"):
        return dict.fromkeys(places)
    counts = json.loads(add.get("stats") or "{}").get("nullCount") or {}

    def nulls(place: _Place) -> int | None:
        inner: Any = counts if place else None
        for part in place:
            inner = inner.get(part) if isinstance(inner, dict) else None
        return inner if isinstance(inner, int) else None

    return {name: nulls(place) for name, place in places.items()}
