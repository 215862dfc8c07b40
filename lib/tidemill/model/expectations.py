"""The expectations of Great Expectations 1.x that tidemill evaluates itself: their names, domains and parameters.

Source: the `great_expectations.expectations.core` package, version 1.24. Names, parameters and defaults are GX's. An
expectation of GX that is not here runs in GX itself, see :data:`IN_GX`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

Check = Callable[[Any], str | None]
"""What is wrong with a parameter's value; None when nothing is."""


class Runs(StrEnum):
    """Where an expectation is evaluated."""

    ROW = "row"
    """Of each row alone: in the write itself."""
    BATCH = "batch"
    """An aggregate of one pass: observed in the write itself."""
    SCHEMA = "schema"
    """Of the columns: before anything is read."""
    FILES = "files"
    """Of the rows that were written: read from their files, before they are published."""
    GX = "gx"
    """In Great Expectations: at a backfill's gate, or over the table."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an expectation of one type looks like. ``domain``: the parameters that name columns."""

    runs: Runs
    domain: tuple[str, ...] = ()
    needs: Mapping[str, Check] = field(default_factory=dict)
    takes: Mapping[str, Check] = field(default_factory=dict)


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a text is wanted"


def _texts(value: Any) -> str | None:
    fine = isinstance(value, list) and value and all(isinstance(each, str) and each for each in value)
    return None if fine else "a list of one text or more is wanted"


def _format(value: Any) -> str | None:
    fine = _text(value) is None and re.search("%[A-Za-z]", value.replace("%%", ""))
    return None if fine else "a format with directives, as %Y-%m-%d, is wanted"


def _two_columns(value: Any) -> str | None:
    return _texts(value) or (None if len(value) > 1 else "at least two columns are wanted")


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false is wanted"


def _number(value: Any) -> str | None:
    return None if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number is wanted"


def _whole(value: Any) -> str | None:
    fine = _number(value) is None and float(value).is_integer()
    return None if fine else "a whole number is wanted"


def _count(value: Any) -> str | None:
    return _whole(value) or (None if value >= 0 else "a number of rows is not negative")


def share(value: Any) -> str | None:
    """What is wrong with a share of rows; None when nothing is."""
    return _number(value) or (None if 0 <= value <= 1 else "a share between 0 and 1 is wanted")


def bound(value: Any) -> int | float | date | datetime:
    """A bound as GX reads it: a number, also as a text; else a date; else a time, of UTC where it names no zone.

    Whole numbers stay whole, where GX makes a double of them. Raises ValueError for anything else.

    >>> bound("2024-01-01"), bound("1e3"), bound("2024-01-01 10:00:00").isoformat()
    (datetime.date(2024, 1, 1), 1000.0, '2024-01-01T10:00:00+00:00')
    """
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str):
        msg = f"not a number or a time: {value!r}"
        raise ValueError(msg)  # noqa: TRY004  as for a text that is neither
    with suppress(ValueError):
        return int(value)
    with suppress(ValueError):
        return float(value)
    with suppress(ValueError):
        return date.fromisoformat(value)
    return bound(datetime.fromisoformat(value))


def _bound(value: Any) -> str | None:
    try:
        if value is not None:
            bound(value)
    except ValueError:
        return "a number, a date or a time (2024-01-31, 2024-01-31 10:00:00) is wanted"
    return None


def _whole_bound(value: Any) -> str | None:
    return None if value is None else _whole(value)


def _number_bound(value: Any) -> str | None:
    return None if value is None else _number(value)


def _share_bound(value: Any) -> str | None:
    return None if value is None else share(value)


def _count_bound(value: Any) -> str | None:
    return None if value is None else _count(value)


def _values(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "a list of one value or more is wanted"
    plain = all(each is None or isinstance(each, (str, int, float, date)) for each in value)
    return None if plain else "a list of plain values is wanted"


def _pairs(value: Any) -> str | None:
    fine = (
        isinstance(value, list) and value and all(isinstance(each, list) and len(each) == 2 for each in value)
    )
    return None if fine else "a list of pairs is wanted"


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in choices else f"one of {', '.join(choices)} is wanted"

    return check


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


_COMMON: Mapping[str, Check] = {
    "mostly": share,
    "row_condition": lambda _value: None,  # judged where it is compiled
    "condition_parser": _optional(
        _one_of("spark", "great_expectations", "great_expectations__experimental__")
    ),
}
_RANGE = {"min_value": _bound, "max_value": _bound, "strict_min": _flag, "strict_max": _flag}
_PAIR_IGNORES = _one_of("both_values_are_missing", "either_value_is_missing", "neither")
_LIST_IGNORES = _one_of("all_values_are_missing", "any_value_is_missing", "never")
_ESCAPE = {"escape": _optional(_text)}


def _column(needs: Mapping[str, Check] | None = None, takes: Mapping[str, Check] | None = None) -> Kind:
    return Kind(Runs.ROW, ("column",), needs or {}, {**_COMMON, **(takes or {})})


def _pair(needs: Mapping[str, Check] | None = None, takes: Mapping[str, Check] | None = None) -> Kind:
    more = {**_COMMON, "ignore_row_if": _PAIR_IGNORES, **(takes or {})}
    return Kind(Runs.ROW, ("column_A", "column_B"), needs or {}, more)


def _columns(needs: Mapping[str, Check] | None = None) -> Kind:
    return Kind(Runs.ROW, ("column_list",), needs or {}, {**_COMMON, "ignore_row_if": _LIST_IGNORES})


def _aggregate(takes: Mapping[str, Check]) -> Kind:
    return Kind(Runs.BATCH, ("column",), {}, {**_COMMON, **takes, "strict_min": _flag, "strict_max": _flag})


_BY_NUMBER = {"min_value": _number_bound, "max_value": _number_bound}

KINDS: Mapping[str, Kind] = {
    "expect_column_values_to_be_between": _column(takes=_RANGE),
    "expect_column_values_to_be_in_set": _column({"value_set": _values}),
    "expect_column_values_to_not_be_in_set": _column({"value_set": _values}),
    "expect_column_values_to_be_null": _column(),
    "expect_column_values_to_not_be_null": _column(),
    "expect_column_values_to_match_regex": _column({"regex": _text}),
    "expect_column_values_to_not_match_regex": _column({"regex": _text}),
    "expect_column_values_to_match_regex_list": _column(
        {"regex_list": _texts}, {"match_on": _one_of("any", "all")}
    ),
    "expect_column_values_to_not_match_regex_list": _column({"regex_list": _texts}),
    "expect_column_values_to_match_like_pattern": _column({"like_pattern": _text}, _ESCAPE),
    "expect_column_values_to_not_match_like_pattern": _column({"like_pattern": _text}, _ESCAPE),
    "expect_column_values_to_match_like_pattern_list": _column(
        {"like_pattern_list": _texts}, {"match_on": _one_of("any", "all"), **_ESCAPE}
    ),
    "expect_column_values_to_not_match_like_pattern_list": _column({"like_pattern_list": _texts}, _ESCAPE),
    "expect_column_values_to_match_strftime_format": _column({"strftime_format": _format}),
    "expect_column_values_to_be_json_parseable": _column(),
    "expect_column_value_lengths_to_be_between": _column(
        takes={**_RANGE, "min_value": _whole_bound, "max_value": _whole_bound}
    ),
    "expect_column_value_lengths_to_equal": _column({"value": _whole}),
    "expect_column_pair_values_a_to_be_greater_than_b": _pair(takes={"or_equal": _optional(_flag)}),
    "expect_column_pair_values_to_be_equal": _pair(),
    "expect_column_pair_values_to_be_in_set": _pair({"value_pairs_set": _pairs}),
    "expect_multicolumn_sum_to_equal": _columns({"sum_total": _number}),
    "expect_multicolumn_values_to_be_equal": _columns(),
    "expect_multicolumn_values_to_be_unique": _columns(),
    "expect_select_column_values_to_be_unique_within_record": _columns(),
    "expect_column_min_to_be_between": _aggregate({"min_value": _bound, "max_value": _bound}),
    "expect_column_max_to_be_between": _aggregate({"min_value": _bound, "max_value": _bound}),
    "expect_column_mean_to_be_between": _aggregate(_BY_NUMBER),
    "expect_column_sum_to_be_between": _aggregate(_BY_NUMBER),
    "expect_column_stdev_to_be_between": _aggregate(_BY_NUMBER),
    "expect_column_proportion_of_non_null_values_to_be_between": _aggregate(
        {"min_value": _share_bound, "max_value": _share_bound}
    ),
    "expect_table_row_count_to_be_between": Kind(
        Runs.BATCH,
        (),
        {},
        {
            **_COMMON,
            "min_value": _count_bound,
            "max_value": _count_bound,
            "strict_min": _flag,
            "strict_max": _flag,
        },
    ),
    "expect_table_row_count_to_equal": Kind(Runs.BATCH, (), {"value": _count}, _COMMON),
    "expect_column_to_exist": Kind(Runs.SCHEMA, ("column",), {}, {"column_index": _optional(_count)}),
    "expect_table_columns_to_match_ordered_list": Kind(Runs.SCHEMA, (), {"column_list": _texts}),
    "expect_table_columns_to_match_set": Kind(
        Runs.SCHEMA, (), {"column_set": _texts}, {"exact_match": _flag}
    ),
    "expect_table_column_count_to_equal": Kind(Runs.SCHEMA, (), {"value": _count}),
    "expect_table_column_count_to_be_between": Kind(
        Runs.SCHEMA, (), {}, {"min_value": _count_bound, "max_value": _count_bound}
    ),
    "expect_column_values_to_be_of_type": Kind(Runs.SCHEMA, ("column",), {"type_": _text}, _COMMON),
    "expect_column_values_to_be_in_type_list": Kind(Runs.SCHEMA, ("column",), {"type_list": _texts}, _COMMON),
}
"""Every expectation that tidemill evaluates itself, by GX's name."""

IN_GX = frozenset(
    {
        "expect_column_distinct_values_to_be_in_set",
        "expect_column_distinct_values_to_contain_set",
        "expect_column_distinct_values_to_equal_set",
        "expect_column_kl_divergence_to_be_less_than",
        "expect_column_median_to_be_between",
        "expect_column_most_common_value_to_be_in_set",
        "expect_column_proportion_of_unique_values_to_be_between",
        "expect_column_quantile_values_to_be_between",
        "expect_column_type_to_be",
        "expect_column_unique_value_count_to_be_between",
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_be_dateutil_parseable",
        "expect_column_values_to_be_decreasing",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_match_json_schema",
        "expect_column_values_to_not_be_outliers",
        "expect_compound_columns_to_be_unique",
        "expect_query_results_to_match_comparison",
        "expect_table_row_count_to_equal_other_table",
        "unexpected_rows_expectation",
    }
)
"""Every other expectation of GX: evaluated there."""

UNIQUE: Mapping[str, str] = {
    "expect_column_values_to_be_unique": "column",
    "expect_compound_columns_to_be_unique": "column_list",
}
"""What may say ``within``, and the parameter that names its key; it is then evaluated by tidemill, in the write."""

NOT_ON_SPARK = frozenset(
    {
        "expect_column_values_to_be_dateutil_parseable",
        "expect_query_results_to_match_comparison",
        "expect_table_row_count_to_equal_other_table",
    }
)
"""Those of :data:`IN_GX` that GX has for other engines alone: on Spark it raises for any rows."""

NOT_IN_GX = frozenset({"expect_multicolumn_values_to_be_unique"})
"""What GX has documented and no longer registers; it means what its successor does."""
