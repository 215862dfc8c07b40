"""Delta statistics from parquet footers, so that readers skip files without opening them.

Source: the Delta transaction protocol, "Per-file Statistics". A bound may be wide, never narrow: strings are
cut at ``MAX_TEXT`` (an upper bound then ends in the greatest character), moments are widened to whole
milliseconds, and where parquet gives no bound (NaN, infinities, binary) none is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any

import pyarrow.parquet as pq

MAX_COLUMNS = 32
MAX_TEXT = 64
_GREATEST = "\U0010ffff"
_ABSENT = object()


def read_stats(path: Any, schema: Mapping[str, Any]) -> tuple[int, str]:
    """Row count and statistics of one parquet file, given as pyarrow's readers take it.

    ``schema`` is the table's, as Spark writes it in JSON. Only leaves of structs have statistics, and of
    those the first ``MAX_COLUMNS``, as Delta's own default is.
    """
    metadata = pq.read_metadata(path)
    leaves = dict(list(_leaves(schema["fields"]))[:MAX_COLUMNS])
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, Any] = {}
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    positions = _positions(groups[0]) if groups else {}
    for name, kind in leaves.items():
        if ".".join(name) not in positions:
            continue
        chunks = [group.column(positions[".".join(name)]).statistics for group in groups]
        if all(chunk is not None and chunk.has_null_count for chunk in chunks):
            _put(nulls, name, sum(chunk.null_count for chunk in chunks))
        least, most = _bounds(chunks, kind)
        if least is not _ABSENT and most is not _ABSENT:
            _put(low, name, least)
            _put(high, name, most)
    stats = {"numRecords": metadata.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    return metadata.num_rows, _dumps(stats)


def _positions(group: Any) -> dict[str, int]:
    # A column a.b and a field b of a column a are written alike: of those nothing can be said.
    names = [group.column(i).path_in_schema for i in range(group.num_columns)]
    return {name: i for i, name in enumerate(names) if names.count(name) == 1}


def _bounds(chunks: Sequence[Any], kind: str) -> tuple[Any, Any]:
    bounded = [c for c in chunks if c is not None and c.has_min_max]
    empty = [c for c in chunks if c is not None and not c.has_min_max and c.num_values == 0]
    if not bounded or len(bounded) + len(empty) != len(chunks):
        return _ABSENT, _ABSENT
    try:
        return (
            _bound(min(c.min for c in bounded), kind, upper=False),
            _bound(max(c.max for c in bounded), kind, upper=True),
        )
    except (OverflowError, ValueError):
        # Spark's calendar is longer than Python's.
        return _ABSENT, _ABSENT


def _leaves(
    fields: Sequence[Mapping[str, Any]], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    for field in fields:
        kind = field["type"]
        name = (*above, field["name"])
        if isinstance(kind, str):
            yield name, kind
        elif kind["type"] == "struct":
            yield from _leaves(kind["fields"], name)


def _dumps(value: Any) -> str:
    # As json.dumps, and decimals as exact numbers, which it has no way to write.
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_dumps(each)}" for key, each in value.items()) + "}"
    return f"{value:f}" if isinstance(value, Decimal) else json.dumps(value)


def _put(tree: dict[str, Any], name: tuple[str, ...], value: Any) -> None:
    for part in name[:-1]:
        tree = tree.setdefault(part, {})
    tree[name[-1]] = value


def _bound(value: Any, kind: str, *, upper: bool) -> Any:
    match value:
        case bool() | bytes():
            return _ABSENT
        case str():
            return _text(value, upper=upper)
        case Decimal():
            return value
        case datetime():
            return _moment(value, upper=upper, zoned=kind == "timestamp")
        case date():
            return value.isoformat()
        case float():
            return value if isfinite(value) else _ABSENT
        case int():
            return value
        case _:
            return _ABSENT


def _text(value: str, *, upper: bool) -> Any:
    if len(value) <= MAX_TEXT:
        return value
    cut = value[:MAX_TEXT]
    if not upper:
        return cut
    return _ABSENT if value[MAX_TEXT] == _GREATEST else cut + _GREATEST


def _moment(value: datetime, *, upper: bool, zoned: bool) -> str:
    rest = value.microsecond % 1000
    whole = value - timedelta(microseconds=rest)
    if upper and rest:
        whole += timedelta(milliseconds=1)
    text = whole.strftime("%Y-%m-%dT%H:%M:%S") + f".{whole.microsecond // 1000:03d}"
    return text.zfill(23) + ("Z" if zoned else "")
