"""Expectations of the columns themselves: answered by the schema, before any row is read.

The meaning is Great Expectations' on Spark: a column within a struct is one too (``outer.inner``), and types are the
classes of ``pyspark.sql.types``. Source: `_get_spark_column_metadata` and the expectations' `_validate`, version 1.24.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import types as T

from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs


@dataclass(frozen=True, slots=True)
class Found:
    """What the schema says of one expectation: the columns, their number, or a type; and whether it is as expected."""

    expectation: Expectation
    value: Any
    met: bool


def found(suite: Suite, schema: T.StructType) -> tuple[Found, ...]:
    """What a schema says of a suite's expectations of columns, in the suite's order. Runs nothing.

    >>> found(Suite(name="none"), T.StructType())
    ()
    """
    columns = columns_of(schema)
    return tuple(Found(each, *_answer(each, columns)) for each in suite.that_run(Runs.SCHEMA))


def columns_of(schema: T.StructType) -> dict[str, T.DataType]:
    """Every column, those within structs too, with its type, by the name that an expectation gives it."""
    return dict(_columns(schema))


def _columns(schema: T.StructType, parent: str = "") -> Iterator[tuple[str, T.DataType]]:
    for field in schema.fields:
        name = f"`{field.name}`" if "." in field.name else field.name
        yield parent + name, field.dataType
        if isinstance(field.dataType, T.StructType):
            yield from _columns(field.dataType, f"{parent}{field.name}.")


def _answer(each: Expectation, columns: dict[str, T.DataType]) -> tuple[Any, bool]:
    kwargs, names = each.kwargs, list(columns)
    match each.type:
        case "expect_column_to_exist":
            index = kwargs.get("column_index")
            # As GX has it: a first place that is asked for is any place.
            there = names[index : index + 1] if index else names
            return names, kwargs["column"] in there
        case "expect_table_columns_to_match_ordered_list":
            return names, names == kwargs["column_list"]
        case "expect_table_columns_to_match_set":
            wanted = set(kwargs["column_set"])
            exact = kwargs.get("exact_match", True)
            return sorted(names), wanted == set(names) if exact else wanted <= set(names)
        case "expect_table_column_count_to_equal":
            return len(names), len(names) == kwargs["value"]
        case "expect_table_column_count_to_be_between":
            return len(names), _within(len(names), kwargs.get("min_value"), kwargs.get("max_value"))
        case "expect_column_values_to_be_of_type":
            return _typed(columns, kwargs["column"], [kwargs["type_"]])
        case "expect_column_values_to_be_in_type_list":
            return _typed(columns, kwargs["column"], kwargs["type_list"])
    raise AssertionError(each.type)  # the catalogue has no others


def _within(value: int, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _typed(columns: dict[str, T.DataType], name: str, wanted: list[str]) -> tuple[str, bool]:
    kind = columns[name]
    return type(kind).__name__, isinstance(kind, tuple(known_types(wanted)))


def known_types(names: list[str]) -> list[type]:
    """The classes of ``pyspark.sql.types`` among these names."""
    return [kind for name in names if isinstance(kind := getattr(T, name, None), type)]
