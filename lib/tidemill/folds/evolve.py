"""Which changes of a schema stored states and rows survive: fields added, widened, renamed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tidemill.errors import StateError

_WIDER = {
    "int8": ("int16", "int32", "int64", "float", "double"),
    "int16": ("int32", "int64", "float", "double"),
    "int32": ("int64", "double"),
    "float": ("double",),
}
_DECIMAL = re.compile(r"decimal\w*\((\d+), ?(\d+)\)")


def widens(old: str, new: str) -> bool:
    """Whether every value of a type can be cast to another that holds it exactly; types by Arrow's names.

    >>> widens("int32", "int64"), widens("int64", "int32"), widens("decimal128(9, 2)", "decimal128(18, 4)")
    (True, False, True)
    """
    if old == new or new in _WIDER.get(old, ()):
        return True
    before, after = _DECIMAL.fullmatch(old), _DECIMAL.fullmatch(new)
    if before is None or after is None:
        return False
    (precision, scale), (wider, finer) = (map(int, each.groups()) for each in (before, after))
    return finer >= scale and wider - finer >= precision - scale


def check_fields(
    what: str,
    old: Mapping[str, str],
    new: Mapping[str, str],
    renamed: Mapping[str, str],
    *,
    may_go: bool,
    otherwise: str,
) -> None:
    """Raise :class:`StateError`, naming the field, unless values of ``old`` fields can be read as ``new`` ones.

    Fields are types by name. Fields may be added, widened (a whole number to a wider one, any to ``double`` that holds
    it exactly, ``float`` to ``double``, a decimal to one with more digits) and renamed (``renamed``: new name to old); ``may_go``: removed, too.
    ``otherwise``: what leads on where they are to change all the same.
    """
    used = set()
    for name, kind in new.items():
        before = name if name in old else renamed.get(name, name)
        if before not in old:
            continue
        used.add(before)
        if not widens(old[before], kind):
            raise StateError(
                f"{what}: {name} is {kind}, and what the stream has stored is {old[before]}",
                next_step=f"keep the type; {otherwise}",
                field=name,
            )
    gone = sorted(old.keys() - used)
    if gone and not may_go:
        raise StateError(
            f"{what}: {gone[0]} is not there any more, and the stream has stored values of it",
            next_step=f"put it back, or say what it is called now: renamed = {{'new name': '{gone[0]}'}}; {otherwise}",
            field=gone[0],
        )


def read_as(
    table: pa.Table, schema: pa.Schema, defaults: Mapping[str, Any], renamed: Mapping[str, str]
) -> pa.Table:
    """Stored columns as ``schema`` has them: cast where they were narrower, filled where they were not there."""
    if table.schema.equals(schema):
        return table
    found = []
    for field in schema:
        name = field.name
        if name not in table.column_names:
            name = renamed.get(name, name)
        if name in table.column_names:
            found.append(table.column(name).cast(field.type))
        else:
            value = pa.scalar(defaults.get(field.name), field.type)
            found.append(pa.chunked_array([pa.repeat(value, table.num_rows)], field.type))
    return pa.Table.from_arrays(found, schema=schema)
