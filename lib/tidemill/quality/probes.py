"""Made-up rows of a schema, chosen to be awkward: what a rule stumbles over in some record, it stumbles over in one of these.

Each column has its extremes: the least and the greatest of numbers, texts that are no number, lists without an element. What
two columns make of theirs together shows only where the extremes meet, so for the columns that a condition names they are
crossed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import combinations, islice, product
from math import prod
from typing import Any

from pyspark.sql import types as T

_MOST, _MOST_OF_STRUCT = 20_000, 64

_PROBES: dict[type[T.DataType], list[Any]] = {
    T.StringType: ["", "x", "2024-02-29", "日本", "-0", "{"],
    T.BinaryType: [b"", b"\xff"],
    T.BooleanType: [True, False],
    T.ByteType: [-(2**7), -1, 0, 2**7 - 1],
    T.ShortType: [-(2**15), -1, 0, 2**15 - 1],
    T.IntegerType: [-(2**31), -1, 0, 2**31 - 1],
    T.LongType: [-(2**63), -1, 0, 2**63 - 1],
    T.FloatType: [float("nan"), 0.0, float("-inf")],
    T.DoubleType: [float("nan"), 0.0, float("-inf")],
    T.DateType: [date(1, 1, 1), date(9999, 12, 31)],
    T.TimestampType: [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)],
    T.TimestampNTZType: [datetime(1, 1, 1), datetime(9999, 12, 31)],  # noqa: DTZ001  of no zone
}

Row = tuple[Any, ...]


def plain(schema: T.StructType) -> list[Row]:
    """A row of nulls, and each extreme of every column: beside those of the others in their order, and against it."""
    columns = [_probes(field.dataType) for field in schema.fields]
    turned = [each[::-1] if number % 2 else each for number, each in enumerate(columns)]
    longest = range(max(map(len, columns), default=0))
    rows = (tuple(each[i % len(each)] for each in some) for some in (columns, turned) for i in longest)
    return [tuple(None for _ in columns), *rows]


def crossed(schema: T.StructType, some: Iterable[frozenset[str]]) -> list[Row]:
    """Rows in which the extremes of these columns, and null, meet: all of them, or every two where that were too many.

    ``some``: the names of top-level columns that are asked for together; all others are null.
    """
    rows: list[Row] = []
    for names in some:
        columns = [
            [None, *_probes(field.dataType)] if field.name in names else [None] for field in schema.fields
        ]
        rows += islice(_crossed(columns), _MOST)
    return rows


def _crossed(columns: Sequence[Sequence[Any]]) -> Iterator[Row]:
    if prod(map(len, columns)) <= _MOST:
        yield from product(*columns)
        return
    middle = [each[len(each) // 2] for each in columns]
    there = [number for number, each in enumerate(columns) if len(each) > 1]
    for i, j in combinations(there, 2):
        for a, b in product(columns[i], columns[j]):
            yield (*middle[:i], a, *middle[i + 1 : j], b, *middle[j + 1 :])


def _probes(kind: T.DataType) -> list[Any]:
    match kind:
        case T.StructType():
            columns = [_probes(field.dataType) for field in kind.fields]
            fit = prod(map(len, columns)) <= _MOST_OF_STRUCT
            return [tuple(None for _ in columns), *product(*columns)] if fit else plain(kind)
        case T.DecimalType():
            most = Decimal(10) ** (kind.precision - kind.scale) - Decimal(1).scaleb(-kind.scale)
            return [-most, Decimal(0), most]
        case T.ArrayType():
            elements = _probes(kind.elementType)
            return [[], [None], elements, elements[::-1]]
        case T.MapType():
            keys = [each for each in _probes(kind.keyType) if each is not None and _hashable(each)]
            values = _probes(kind.valueType)
            return [{}, dict.fromkeys(keys), {key: values[i % len(values)] for i, key in enumerate(keys)}]
    return _PROBES.get(type(kind), [None])


def _hashable(value: Any) -> bool:
    # A list, or a struct with one in it, is no key of Python's.
    return isinstance(value, Hashable) and (not isinstance(value, tuple) or all(map(_hashable, value)))
