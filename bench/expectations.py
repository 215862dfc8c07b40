"""Twenty row expectations of many kinds over the events of :mod:`bench.events`, all of which are met."""

from __future__ import annotations

from typing import Any

from tidemill.model.expectations import KINDS


def _expect(what: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{what}", "kwargs": kwargs}


_BETWEEN = "column_values_to_be_between"
_NOT_NULL = "column_values_to_not_be_null"
EXPECTATIONS = (
    _expect(_BETWEEN, column="user_id", min_value=0, max_value=50_000),
    _expect(_BETWEEN, column="amount_cents", min_value=1, max_value=50_000),
    _expect(_BETWEEN, column="quantity", min_value=0, max_value=9, strict_min=True, strict_max=True),
    _expect(_BETWEEN, column="at", min_value="2024-02-29", max_value="2025-01-01"),
    # One row in eight is not as expected, and as many may be.
    _expect(_BETWEEN, column="quantity", min_value=2, max_value=8, mostly=0.8),
    _expect(_NOT_NULL, column="id"),
    _expect(_NOT_NULL, column="at"),
    _expect(
        _NOT_NULL,
        column="user_id",
        row_condition='col("country") == "DE"',
        condition_parser="great_expectations",
    ),
    _expect("column_values_to_be_in_set", column="country", value_set=["DE", "FR", "GB", "JP", "NL", "US"]),
    _expect("column_values_to_not_be_in_set", column="agent", value_set=["", "unknown"]),
    _expect("column_values_to_match_regex", column="page", regex="^/item/[0-9]+$"),
    _expect("column_values_to_not_match_regex", column="agent", regex="(?i)bot|spider"),
    _expect(
        "column_values_to_match_regex_list",
        column="agent",
        regex_list=["^Mozilla/", "^curl/", "^agent/"],
        match_on="any",
    ),
    _expect("column_values_to_match_like_pattern", column="page", like_pattern="/item/%"),
    _expect("column_values_to_not_match_like_pattern", column="id", like_pattern="% %"),
    _expect("column_value_lengths_to_equal", column="country", value=2),
    _expect("column_value_lengths_to_be_between", column="page", min_value=7, max_value=12),
    _expect("column_values_to_match_strftime_format", column="day", strftime_format="%Y-%m-%d"),
    _expect(
        "column_pair_values_a_to_be_greater_than_b",
        column_A="amount_cents",
        column_B="quantity",
        row_condition="amount_cents > 8",
        condition_parser="spark",
    ),
    _expect("select_column_values_to_be_unique_within_record", column_list=["id", "page", "country"]),
)
NOT_IN_SPARK = frozenset(name for name in KINDS if "_like_pattern" in name)
"""What GX does not evaluate on Spark."""


def suite(expectations: tuple[dict[str, Any], ...] = EXPECTATIONS) -> dict[str, Any]:
    """A suite as GX writes it."""
    return {"name": "events", "expectations": list(expectations)}
