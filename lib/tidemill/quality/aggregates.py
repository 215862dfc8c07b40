"""Expectations of all rows together, as aggregates of one pass: they ride on ``observe``, beside the rules of rows.

The meaning is Great Expectations' on Spark: nulls do not count, rows outside the ``row_condition`` neither, and where
there is no value (of no rows, or NaN) the expectation is not met. Source: the metrics in
`great_expectations.expectations.metrics.column_aggregate_metrics`, version 1.24. The guide lists what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs
from tidemill.quality.columns import columns_of
from tidemill.quality.predicates import INTEGRAL, between, condition, literal, number_of


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What was seen of one expectation: the ``value`` (None where there is none), and whether it is as expected."""

    expectation: Expectation
    value: Any
    met: bool


def observed(suite: Suite, schema: T.StructType, of: Column | None = None) -> list[Column]:
    """What to observe for the aggregates of a suite over rows of ``schema``: a value and a verdict each.

    ``of``: the rows that are judged; all, when None.
    """
    columns = []
    for number, each in enumerate(suite.that_run(Runs.BATCH)):
        value = _value(each, schema, of)
        columns += [_told(each, value, schema).alias(f"value_{number}")]
        columns += [_met(each, value, schema).alias(f"met_{number}")]
    return columns


def _told(each: Expectation, value: Column, schema: T.StructType) -> Column:
    """A value as Python can hold it: there are dates and times, in data that is wrong, that it has no words for."""
    kind = columns_of(schema).get(each.kwargs.get("column", ""), T.LongType())
    return value if isinstance(kind, (T.NumericType, T.StringType, T.BooleanType)) else value.cast("string")


def aggregated(suite: Suite, seen: Mapping[str, Any]) -> tuple[Aggregated, ...]:
    """What was observed, expectation by expectation; ``seen``: by name, of one pass."""
    return tuple(
        Aggregated(each, seen[f"value_{number}"], bool(seen[f"met_{number}"]))
        for number, each in enumerate(suite.that_run(Runs.BATCH))
    )


def _value(each: Expectation, schema: T.StructType, of: Column | None) -> Column:
    judged = [column for column in (condition(each.kwargs, schema), of) if column is not None]
    inside = reduce(Column.__and__, judged, F.lit(True))
    if each.type.startswith("expect_table_row_count"):
        return number_of(inside)
    column = F.when(inside, F.col(each.kwargs["column"]))
    return _AGGREGATES[each.type](column, inside, columns_of(schema)[each.kwargs["column"]])


def _share(column: Column, inside: Column, _kind: T.DataType) -> Column:
    return F.try_divide(F.count(column), number_of(inside))


def _sum(column: Column, _inside: Column, kind: T.DataType) -> Column:
    # Whole numbers are added as such, and do not overflow.
    return F.sum(column.cast(T.DecimalType(38, 0)) if isinstance(kind, INTEGRAL) else column)


_AGGREGATES: Mapping[str, Callable[[Column, Column, T.DataType], Column]] = {
    "expect_column_min_to_be_between": lambda column, _, __: F.min(column),
    "expect_column_max_to_be_between": lambda column, _, __: F.max(column),
    "expect_column_mean_to_be_between": lambda column, _, __: F.mean(column),
    "expect_column_sum_to_be_between": _sum,
    "expect_column_stdev_to_be_between": lambda column, _, __: F.stddev_samp(column),
    "expect_column_proportion_of_non_null_values_to_be_between": _share,
}


OF_COUNTS = frozenset({"expect_column_proportion_of_non_null_values_to_be_between"})
"""Those whose value is of no row's, but of how many there are."""


def _met(each: Expectation, value: Column, schema: T.StructType) -> Column:
    kwargs = each.kwargs
    if "value" in kwargs:
        return value == literal(kwargs["value"])
    if each.type in OF_COUNTS:
        # Of no rows the share is judged as 0, not as unknown.
        value = F.coalesce(value, F.lit(0.0))
    met = value.isNotNull()
    kind = columns_of(schema)[kwargs["column"]] if "column" in kwargs else T.LongType()
    if isinstance(kind, (T.FloatType, T.DoubleType)):
        met = met & ~F.isnan(value)
    if kwargs.get("min_value") is not None or kwargs.get("max_value") is not None:
        met = met & between(value, kwargs)
    return F.coalesce(met, F.lit(False))
