"""Row expectations as column expressions: whether a row is looked at, and whether it is not as expected.

The meaning is Great Expectations' on Spark: a null value is not looked at (but for the two expectations of nulls),
rows outside the ``row_condition`` or under ``ignore_row_if`` are not, and a condition that is neither true nor false
finds nothing. Source: the metrics in `great_expectations.expectations.metrics`, version 1.24. Where the meaning differs,
the guide says so and a test shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.model import Expectation
from tidemill.model.expectations import bound
from tidemill.model.row_condition import All, Compare, Condition, Null, Some, Sql, parse
from tidemill.quality.strftime import matches

INTEGRAL = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_WIDEST, _WIDEST_DECIMAL = 2**63, 10**38


@dataclass(frozen=True, slots=True)
class Predicate:
    """One row expectation, compiled. Where ``unexpected`` is null of a row, the row is not; the others are never null.

    ``inside``: the row is within the row condition; None where each row is. ``ignored``: it is, and is not looked at; None
    where none is. ``unexpected``: it is looked at, and not as expected.
    """

    expectation: Expectation
    inside: Column | None
    ignored: Column | None
    unexpected: Column


def compiled(expectation: Expectation, schema: T.StructType) -> Predicate:
    """The predicate of a row expectation over rows of ``schema``."""
    kwargs = expectation.kwargs
    inside, present = condition(kwargs, schema), _present(expectation)
    expected = _EXPECTED[expectation.type](kwargs, schema)
    # What is said of one column is null where the column is: it need not be asked twice.
    asked = None if "column" in kwargs else present
    ignored = None if present is None else _all(inside, ~present)
    return Predicate(expectation, inside, ignored, _all(inside, asked, ~expected))


def condition(kwargs: Mapping[str, Any], schema: T.StructType) -> Column | None:
    """Whether a row is within an expectation's ``row_condition``, never null; None where there is no condition."""
    parsed = parse(kwargs.get("row_condition"), kwargs.get("condition_parser"))
    return None if parsed is None else _true(_holds(parsed, schema))


def _all(*columns: Column | None) -> Column:
    return reduce(Column.__and__, [each for each in columns if each is not None])


def number_of(column: Column) -> Column:
    """Of how many rows a column is true.

    As ``count_if``, of which Spark makes a column of its own, added to each row and taken away again.
    """
    return F.count(F.when(column, 1))


def literal(value: Any) -> Column:
    """A value of a suite as a column; a whole number of more than 64 bits is a decimal, and a greater one a double."""
    if isinstance(value, int) and not -_WIDEST <= value < _WIDEST:
        value = Decimal(value) if abs(value) < _WIDEST_DECIMAL else float(value)
    return F.lit(value)


def _is_in(column: Column, values: Iterable[Any]) -> Column:
    return column.isin([literal(value) for value in values])


def _true(column: Column) -> Column:
    return F.coalesce(column, F.lit(False))


def _present(expectation: Expectation) -> Column | None:
    kwargs = expectation.kwargs
    if "column" in kwargs:
        return None if expectation.type in _OF_NULLS else F.col(kwargs["column"]).isNotNull()
    names = kwargs["column_list"] if "column_list" in kwargs else [kwargs["column_A"], kwargs["column_B"]]
    present = [F.col(name).isNotNull() for name in names]
    rule = kwargs.get("ignore_row_if", "all_values_are_missing")
    if rule in {"both_values_are_missing", "all_values_are_missing"}:
        return reduce(Column.__or__, present)
    if rule in {"either_value_is_missing", "any_value_is_missing"}:
        return reduce(Column.__and__, present)
    return None


_OF_NULLS = {"expect_column_values_to_be_null", "expect_column_values_to_not_be_null"}


def _holds(parsed: Condition, schema: T.StructType) -> Column:
    match parsed:
        case Sql(text=text):
            return F.expr(text)
        case Null(column=name, is_null=is_null):
            return F.col(name).isNull() if is_null else F.col(name).isNotNull()
        case All(of=parts):
            return reduce(Column.__and__, [_holds(part, schema) for part in parts])
        case Some(of=parts):
            return reduce(Column.__or__, [_holds(part, schema) for part in parts])
        case Compare(column=name, operator="IN", value=values):
            return _is_in(F.col(name), values)
        case Compare(column=name, operator="NOT_IN", value=values):
            return ~_is_in(F.col(name), values)
        case Compare(column=name, operator=operator, value=value, coerced=coerced):
            return _OPERATORS[operator](
                F.col(name), literal(_number(value, name, schema) if coerced else value)
            )


_OPERATORS: Mapping[str, Callable[[Column, Any], Column]] = {
    "==": Column.__eq__,
    "!=": Column.__ne__,
    "<": Column.__lt__,
    "<=": Column.__le__,
    ">": Column.__gt__,
    ">=": Column.__ge__,
}


def _number(text: str, name: str, schema: T.StructType) -> Any:
    if isinstance(_kinds(schema).get(name), T.NumericType):
        for read in (int, float):
            try:
                return read(text)
            except ValueError:
                continue
    return text


def _kinds(schema: T.StructType) -> dict[str, T.DataType]:
    return {field.name: field.dataType for field in schema.fields}


_Kwargs = Mapping[str, Any]
_Expected = Callable[[_Kwargs, T.StructType], Column]


def between(value: Column, kwargs: Mapping[str, Any]) -> Column:
    """Whether a value lies within ``min_value`` and ``max_value``, of which there is one at least; null where it is."""
    bounds = []
    if kwargs.get("min_value") is not None:
        low = literal(bound(kwargs["min_value"]))
        bounds.append(value > low if kwargs.get("strict_min") else value >= low)
    if kwargs.get("max_value") is not None:
        high = literal(bound(kwargs["max_value"]))
        bounds.append(value < high if kwargs.get("strict_max") else value <= high)
    return reduce(Column.__and__, bounds)


_PLAIN = re.compile(r"[\w /:;,=@#%&~'\"<>!-]*", re.ASCII)
_ANY_CASE = "(?i)"


def _finds(value: Column, regex: str) -> Column:
    """Whether a regular expression is found in a text. Texts to begin with or to contain are looked for as such: a tenth
    of the time, most of which the matcher's own text and state take.
    """
    any_case = regex.startswith(_ANY_CASE)
    parts = regex.removeprefix(_ANY_CASE).split("|")
    texts = [part.removeprefix("^") for part in parts]
    if not all(_PLAIN.fullmatch(text) for text in texts):
        return value.rlike(regex)
    if any_case:
        # Small letters of other alphabets may be as many as they like, and of I and J are not i and j everywhere.
        pieces = [max(re.split("[ij]", text.lower()), key=len) for text in texts]
        small = F.lower(value)
        return reduce(Column.__or__, [small.contains(piece) for piece in pieces]) & value.rlike(regex)
    found = [
        value.startswith(text) if part.startswith("^") else value.contains(text)
        for part, text in zip(parts, texts, strict=True)
    ]
    return reduce(Column.__or__, found)


def _regex_list(value: Column, kwargs: _Kwargs) -> Column:
    expressions = kwargs["regex_list"]
    if kwargs.get("match_on", "any") == "any":
        return _finds(value, "|".join(expressions))
    return reduce(Column.__and__, [_finds(value, each) for each in expressions])


def _like(value: Column, pattern: str, kwargs: _Kwargs) -> Column:
    return F.like(value, F.lit(pattern), F.lit(kwargs.get("escape") or "\\"))


def _like_list(value: Column, kwargs: _Kwargs) -> Column:
    join = Column.__or__ if kwargs.get("match_on", "any") == "any" else Column.__and__
    return reduce(join, [_like(value, pattern, kwargs) for pattern in kwargs["like_pattern_list"]])


def _not_like_list(value: Column, kwargs: _Kwargs) -> Column:
    return reduce(Column.__and__, [~_like(value, pattern, kwargs) for pattern in kwargs["like_pattern_list"]])


_END = "8b0b5d1e-end-of-text"


def _is_json(value: Column) -> Column:
    # Spark stops reading where a value ends, and says nothing of what follows: so something known follows.
    parsed = F.try_parse_json(F.concat(F.lit("["), value, F.lit(f',"{_END}"]')))
    return F.when(value.isNotNull(), _true(F.try_variant_get(parsed, "$[1]", "string") == _END))


def _greater(a: Column, b: Column, kwargs: _Kwargs) -> Column:
    return (a >= b) | a.eqNullSafe(b) if kwargs.get("or_equal") else a > b


def _in_pairs(a: Column, b: Column, kwargs: _Kwargs) -> Column:
    pairs = [a.eqNullSafe(literal(x)) & b.eqNullSafe(literal(y)) for x, y in kwargs["value_pairs_set"]]
    return reduce(Column.__or__, pairs)


def _sum(kwargs: _Kwargs, schema: T.StructType) -> Column:
    parts = []
    for name in kwargs["column_list"]:
        value = F.coalesce(F.col(name), F.lit(0))
        # Sums of whole numbers must not overflow.
        whole = isinstance(_kinds(schema).get(name), INTEGRAL)
        parts.append(value.cast(T.DecimalType(38, 0)) if whole else value)
    return reduce(Column.__add__, parts) == literal(kwargs["sum_total"])


def _all_equal(kwargs: _Kwargs, _schema: T.StructType) -> Column:
    first, *others = [F.col(name) for name in kwargs["column_list"]]
    return reduce(Column.__and__, [first.eqNullSafe(other) for other in others])


def _all_unlike(kwargs: _Kwargs, _schema: T.StructType) -> Column:
    columns = [F.col(name) for name in kwargs["column_list"]]
    same = [a.eqNullSafe(b) for i, a in enumerate(columns) for b in columns[i + 1 :]]
    return ~reduce(Column.__or__, same)


def _one(expected: Callable[[Column, _Kwargs], Column]) -> _Expected:
    return lambda kwargs, _schema: expected(F.col(kwargs["column"]), kwargs)


def _two(expected: Callable[[Column, Column, _Kwargs], Column]) -> _Expected:
    return lambda kwargs, _schema: expected(F.col(kwargs["column_A"]), F.col(kwargs["column_B"]), kwargs)


_EXPECTED: Mapping[str, _Expected] = {
    "expect_column_values_to_be_between": _one(between),
    "expect_column_values_to_be_in_set": _one(lambda v, k: _is_in(v, k["value_set"])),
    "expect_column_values_to_not_be_in_set": _one(lambda v, k: ~_is_in(v, k["value_set"])),
    "expect_column_values_to_be_null": _one(lambda v, _: v.isNull()),
    "expect_column_values_to_not_be_null": _one(lambda v, _: v.isNotNull()),
    "expect_column_values_to_match_regex": _one(lambda v, k: _finds(v, k["regex"])),
    "expect_column_values_to_not_match_regex": _one(lambda v, k: ~_finds(v, k["regex"])),
    "expect_column_values_to_match_regex_list": _one(_regex_list),
    "expect_column_values_to_not_match_regex_list": _one(
        lambda v, k: reduce(Column.__and__, [~_finds(v, each) for each in k["regex_list"]])
    ),
    "expect_column_values_to_match_like_pattern": _one(lambda v, k: _like(v, k["like_pattern"], k)),
    "expect_column_values_to_not_match_like_pattern": _one(lambda v, k: ~_like(v, k["like_pattern"], k)),
    "expect_column_values_to_match_like_pattern_list": _one(_like_list),
    "expect_column_values_to_not_match_like_pattern_list": _one(_not_like_list),
    "expect_column_values_to_match_strftime_format": _one(lambda v, k: matches(v, k["strftime_format"])),
    "expect_column_values_to_be_json_parseable": _one(lambda v, _: _is_json(v)),
    "expect_column_value_lengths_to_be_between": _one(lambda v, k: between(F.length(v), k)),
    "expect_column_value_lengths_to_equal": _one(lambda v, k: F.length(v) == F.lit(k["value"])),
    "expect_column_pair_values_a_to_be_greater_than_b": _two(_greater),
    "expect_column_pair_values_to_be_equal": _two(lambda a, b, _: a.eqNullSafe(b)),
    "expect_column_pair_values_to_be_in_set": _two(_in_pairs),
    "expect_multicolumn_sum_to_equal": _sum,
    "expect_multicolumn_values_to_be_equal": _all_equal,
    "expect_multicolumn_values_to_be_unique": _all_unlike,
    "expect_select_column_values_to_be_unique_within_record": _all_unlike,
}
"""When a row that is looked at is as expected, by the expectation's type."""
