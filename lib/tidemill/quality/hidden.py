"""Which values of a pipeline's rows stay out of what is kept beside the table: commits, index, manifests, Data Docs.

Those are there for longer than the rows, and nothing rebuilds them when a person is erased. Rules of an input see its fields before
they are sealed; and of what a pipeline opens anything may be made, so there every text counts as a person's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import types as T

from tidemill.ledger.verdicts import Result
from tidemill.model import Pipeline
from tidemill.model.source import is_part

HIDDEN = "(hidden)"
"""What stands in place of a value."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Of which columns values are not to be kept: the ``fields`` named, and with ``texts`` all that hold text."""

    fields: tuple[str, ...] = ()
    texts: bool = False

    def __call__(self, column: str, kind: T.DataType | None) -> bool:
        """Whether values of a column are."""
        if any(is_part(column, each) or is_part(each, column) for each in self.fields):
            return True
        return self.texts and (kind is None or holds_text(kind))


def of_input(pipeline: Pipeline, name: str) -> Hidden:
    """What an input's rules see and nothing may keep."""
    personal = pipeline.inputs[name].personal
    return Hidden(personal.seal if personal is not None else ())


def of_table(pipeline: Pipeline) -> Hidden:
    """What the table's rules see and nothing may keep."""
    return Hidden(texts=pipeline.holds_opened)


def without_values(pipeline: Pipeline, results: Iterable[Result]) -> tuple[Result, ...]:
    """What Great Expectations found of the table's rows: of a pipeline that opens fields, numbers alone."""
    return tuple(
        replace(each, value=HIDDEN)
        if pipeline.holds_opened and isinstance(each.value, str | list | dict)
        else each
        for each in results
    )


def without_texts(
    pipeline: Pipeline, schema: T.StructType, samples: Iterable[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """Samples of the table's rows: of a pipeline that opens fields, each text is a number, the same for equal ones."""
    if not pipeline.holds_opened:
        return tuple(samples)
    texts = {field.name for field in schema.fields if holds_text(field.dataType)}
    numbers: dict[str, str] = {}

    def numbered(row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: numbers.setdefault(json.dumps(value), f"{HIDDEN} {len(numbers) + 1}")
            if name in texts and value is not None
            else value
            for name, value in row.items()
        }

    return tuple({**each, "row": json.dumps(numbered(json.loads(each["row"])))} for each in samples)


def holds_text(kind: T.DataType) -> bool:
    """Whether a value of a type may have text in it."""
    match kind:
        case T.StructType():
            return any(holds_text(field.dataType) for field in kind.fields)
        case T.ArrayType():
            return holds_text(kind.elementType)
        case T.MapType():
            return holds_text(kind.keyType) or holds_text(kind.valueType)
        case _:
            return isinstance(kind, T.StringType | T.VarcharType | T.CharType | T.BinaryType | T.VariantType)
