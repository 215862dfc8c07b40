"""Row conditions of Great Expectations: which rows an expectation looks at.

Source: `great_expectations.expectations.row_conditions` (conditions as objects) and `legacy_row_conditions` (texts for
the parsers ``great_expectations`` and ``spark``), version 1.24.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OPERATORS = ("==", "!=", "<=", ">=", "<", ">")
_SETS = ("IN", "NOT_IN")
_MOST = 100


@dataclass(frozen=True, slots=True)
class Sql:
    """A condition in Spark's SQL."""

    text: str


@dataclass(frozen=True, slots=True)
class Compare:
    """A column against a value; against a list of them for ``IN`` and ``NOT_IN``.

    ``coerced``: a text is read as a number where the column is one.
    """

    column: str
    operator: str
    value: Any
    coerced: bool = False


@dataclass(frozen=True, slots=True)
class Null:
    """Whether a column is null, or is not."""

    column: str
    is_null: bool


@dataclass(frozen=True, slots=True)
class All:
    """Every one of these."""

    of: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of these."""

    of: tuple[Condition, ...]


Condition = Sql | Compare | Null | All | Some

_TEXT = re.compile(
    r"""\s*col\(\s*"(?P<column>[^"]+)"\s*\)\s*(?:
        (?P<notnull>\.notnull\(\))
      | (?P<operator>==|!=|<=|>=|<|>)\s*(?:
          (?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
        | (?P<date>date\(\s*)?(?P<quote>["'])(?P<value>[^"']+)(?P=quote)(?(date)\s*\))
        )
    )\s*""",
    re.VERBOSE | re.IGNORECASE,
)


def sql_in(condition: Condition | None) -> Iterator[str]:
    """The texts of SQL in a condition."""
    match condition:
        case Sql(text=text):
            yield text
        case All(of=parts) | Some(of=parts):
            for part in parts:
                yield from sql_in(part)
        case _:
            return


def parse(value: Any, parser: str | None) -> Condition | None:
    """What a ``row_condition`` with this ``condition_parser`` means; None for none.

    Raises ValueError saying what is wrong.

    >>> parse('col("delay") > 15', "great_expectations")
    Compare(column='delay', operator='>', value=15, coerced=False)
    """
    if value is None:
        return None
    if isinstance(value, dict):
        return _of_object(value, depth=0)
    if not isinstance(value, str) or not value.strip():
        msg = "a text or a condition object is wanted"
        raise ValueError(msg)
    if parser == "spark":
        return Sql(value)
    if parser is None:
        msg = "a condition written as a text needs condition_parser: spark, or great_expectations"
        raise ValueError(msg)
    return _of_text(value)


def columns(condition: Condition | None) -> Iterator[str]:
    """The columns that a condition names; those of SQL are left to Spark."""
    match condition:
        case Compare(column=name) | Null(column=name):
            yield name
        case All(of=parts) | Some(of=parts):
            for part in parts:
                yield from columns(part)
        case _:
            return


def _of_text(text: str) -> Condition:
    found = _TEXT.fullmatch(text)
    if found is None:
        msg = f"""{text!r} is not of the form col("NAME") OPERATOR VALUE, or col("NAME").notnull()"""
        raise ValueError(msg)
    if found["notnull"]:
        return Null(found["column"], is_null=False)
    if found["number"]:
        return Compare(found["column"], found["operator"], _number(found["number"]))
    return Compare(found["column"], found["operator"], found["value"], coerced=True)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _of_object(value: dict[str, Any], depth: int) -> Condition:
    kind = value.get("type")
    if depth > _MOST:
        msg = "nested too deeply"
        raise ValueError(msg)
    if kind == "pass_through" and isinstance(value.get("pass_through_filter"), str):
        return Sql(value["pass_through_filter"])
    if kind in {"and", "or"} and isinstance(value.get("conditions"), list) and value["conditions"]:
        parts = tuple(_of_object(each, depth + 1) for each in value["conditions"] if isinstance(each, dict))
        return All(parts) if kind == "and" else Some(parts)
    column = value.get("column")
    name = column.get("name") if isinstance(column, dict) else None
    if isinstance(name, str) and kind == "nullity" and isinstance(value.get("is_null"), bool):
        return Null(name, value["is_null"])
    if isinstance(name, str) and kind == "comparison":
        return _comparison(name, value.get("operator"), value.get("parameter"))
    msg = (
        "a condition has the type comparison, nullity, and, or, or pass_through, with the fields of that type"
    )
    raise ValueError(msg)


def _comparison(name: str, operator: Any, value: Any) -> Condition:
    if operator in _SETS and isinstance(value, list) and value:
        return Compare(name, operator, value)
    if operator in OPERATORS and value is not None and not isinstance(value, (list, dict)):
        return Compare(name, operator, value)
    msg = f"a comparison has one of the operators {', '.join((*OPERATORS, *_SETS))} and a parameter that fits"
    raise ValueError(msg)
