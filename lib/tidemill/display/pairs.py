"""Differing rows in pairs: what the table has beside what the code gives, so that the cells that differ stand out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FEW = 4
Fields = Mapping[str, Any]
"""A row by column, as JSON has it: a column that is null is not there."""


@dataclass(frozen=True, slots=True)
class Side:
    """A row on one side of a comparison, and how often it is there more often than on the other side."""

    fields: Fields
    times: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Rows of an interval that stand opposite each other.

    ``before``: as the table has it, ``after``: as the code gives it; one of them is None where there is no such row.
    """

    interval: str
    before: Side | None
    after: Side | None

    @property
    def sides(self) -> tuple[tuple[str, Side], ...]:
        """The rows that are there, each with its sign: first -, the table's, then +."""
        return tuple((sign, side) for sign, side in (("-", self.before), ("+", self.after)) if side)

    @property
    def differing(self) -> frozenset[str]:
        """The columns in which the two differ; none where nothing stands opposite."""
        if self.before is None or self.after is None:
            return frozenset()
        before, after = self.before.fields, self.after.fields
        return frozenset(name for name in {*before, *after} if before.get(name) != after.get(name))


def row_fields(row: Any) -> dict[str, Any]:
    """The fields of a sample's row, which the engine keeps as a text of JSON."""
    try:
        body = json.loads(row) if isinstance(row, str) else row
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"row": row}


def shown(value: Any) -> str:
    """A cell as text: a text as it is, anything else as JSON.

    >>> shown("a"), shown(None), shown(1.5), shown([True])
    ('a', 'null', '1.5', '[true]')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def paired(samples: Iterable[Mapping[str, Any]], key: Sequence[str] = ()) -> tuple[Pair, ...]:
    """Samples of differing rows, in their order, each with the row that stands opposite it.

    That is the one with the same key; without a key the one most like it, if half of the cells are equal.

    >>> old = {"interval": "d", "rows": -1, "row": '{"id": 1, "n": 2}'}
    >>> new = {"interval": "d", "rows": 1, "row": '{"id": 1, "n": 3}'}
    >>> [sorted(pair.differing) for pair in paired([old, new], key=["id"])]
    [['n']]
    """
    rest = [(str(each["interval"]), int(each["rows"]), row_fields(each["row"])) for each in samples]
    found = []
    while rest:
        label, number, fields = rest.pop(0)
        opposite = [i for i, (other, n, _) in enumerate(rest) if other == label and n * number < 0]
        likeness = {i: _likeness(fields, rest[i][2], key) for i in opposite}
        twin = max(opposite, key=likeness.__getitem__, default=None)
        mine, theirs = Side(fields, abs(number)), None
        if twin is not None and likeness[twin] > 0:
            _, n, others = rest.pop(twin)
            theirs = Side(others, abs(n))
        found.append(Pair(label, theirs, mine) if number > 0 else Pair(label, mine, theirs))
    return tuple(found)


def _likeness(one: Fields, other: Fields, key: Sequence[str]) -> int:
    """How many cells are equal; 0 for rows that do not belong together."""
    names = {*one, *other}
    equal = sum(one.get(name) == other.get(name) for name in names)
    if key:
        return equal if all(one.get(name) == other.get(name) for name in key) else 0
    return equal if 2 * equal >= len(names) else 0


def columns_of(pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Every column of the rows, in the order of the table."""
    rows = [side.fields for pair in pairs for _, side in pair.sides]
    # A null is not in a row's text: the fullest row knows most of the order.
    return tuple(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))


def numbers_of(pairs: Iterable[Pair]) -> frozenset[str]:
    """The columns that hold no text, to be set flush right."""
    rows = [side.fields for pair in pairs for _, side in pair.sides]
    texts = {name for row in rows for name, value in row.items() if isinstance(value, str)}
    return frozenset(name for row in rows for name in row if name not in texts)


def telling_columns(pairs: Sequence[Pair], key: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of the key (without one, the first few) and those that differ in a pair.

    All of them where a row stands alone.
    """
    if any(pair.before is None or pair.after is None for pair in pairs):
        return columns_of(pairs)
    everything = columns_of(pairs)
    wanted = {*(key or everything[:_FEW])}.union(*(pair.differing for pair in pairs))
    return tuple(name for name in everything if name in wanted)
