"""What an expectation means here and not in Great Expectations on Spark: the guide's list, each shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.quality.gx import Gx
from tidemill.model import Expectation, Suite
from tidemill.quality.aggregates import aggregated, observed
from tidemill.quality.predicates import compiled

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]


def unexpected(
    spark: SparkSession, kind: str, values: Iterable[Any], of: str = "STRING", **kwargs: Any
) -> list[Any]:
    """The values of column ``v`` that the expectation finds."""
    frame = spark.createDataFrame([(i, value) for i, value in enumerate(values)], f"i INT, v {of}")
    rule = Expectation(id="r", type=kind, kwargs={"column": "v", **kwargs})
    return [row["v"] for row in frame.where(compiled(rule, frame.schema).unexpected).orderBy("i").collect()]


def test_like_is_sqls(spark: SparkSession) -> None:
    values = ["abc", "a%c", "ac", "", "b"]
    like = "expect_column_values_to_match_like_pattern"
    assert unexpected(spark, like, values, like_pattern="a%c") == ["", "b"]
    assert unexpected(spark, like, values, like_pattern="a\\%c") == ["abc", "ac", "", "b"]
    assert unexpected(spark, like, values, like_pattern="a!%c", escape="!") == ["abc", "ac", "", "b"]
    assert unexpected(spark, like, ["abc", "abbc"], like_pattern="a_c") == ["abbc"]
    assert unexpected(spark, "expect_column_values_to_not_match_like_pattern", values, like_pattern="a%") == [
        "abc",
        "a%c",
        "ac",
    ]
    several = {"like_pattern_list": ["a%", "%c"]}
    assert unexpected(
        spark, "expect_column_values_to_match_like_pattern_list", ["ax", "xc", "x", "ac"], **several
    ) == ["x"]
    assert unexpected(
        spark,
        "expect_column_values_to_match_like_pattern_list",
        ["ax", "xc", "ac"],
        match_on="all",
        **several,
    ) == ["ax", "xc"]
    assert unexpected(
        spark, "expect_column_values_to_not_match_like_pattern_list", ["ax", "xc", "x"], **several
    ) == ["ax", "xc"]


def test_whole_numbers_are_added_as_such(spark: SparkSession) -> None:
    sums = {"type": "expect_column_sum_to_be_between", "kwargs": {"column": "v", "max_value": 2**64}}
    suite = Suite(name="s", expectations=(Expectation(id="r", **sums),))
    frame = spark.createDataFrame([(2**63 - 1,), (2**63 - 1,), (3,)], "v BIGINT")
    told = frame.agg(*observed(suite, frame.schema)).first()
    assert told is not None
    (found,) = aggregated(suite, told.asDict())
    assert (found.value, found.met) == (Decimal(2**64 + 1), False)
    # A double has no place for the last one.
    (theirs,) = Gx().says(frame, [sums])
    assert (theirs["observed"], theirs["success"]) == (2.0**64, True)


def test_whole_numbers_are_compared_as_such(spark: SparkSession) -> None:
    values = [2**53, 2**53 + 1, 2**53 + 2]
    between = "expect_column_values_to_be_between"
    assert unexpected(spark, between, values, "BIGINT", max_value=2**53) == values[1:]


def test_times_without_a_zone_are_of_utc(spark: SparkSession) -> None:
    values = [datetime(2024, 1, 1, 9, 59, tzinfo=UTC), datetime(2024, 1, 1, 10, tzinfo=UTC)]
    found = unexpected(
        spark, "expect_column_values_to_be_between", values, "TIMESTAMP", min_value="2024-01-01 10:00:00"
    )
    assert len(found) == 1


def test_values_of_a_record_unlike_each_other_has_its_old_name_too(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(1, 1), (1, 2), (None, None), (None, 1)], "a INT, b INT")
    rule = Expectation(
        id="r", type="expect_multicolumn_values_to_be_unique", kwargs={"column_list": ["a", "b"]}
    )
    assert [tuple(row) for row in frame.where(compiled(rule, frame.schema).unexpected).collect()] == [(1, 1)]


def test_pairs_are_looked_at_under_a_row_condition_too(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(1, "a"), (2, "a"), (3, "a"), (3, None)], "n INT, t STRING")
    kwargs = {
        "column_A": "n", "column_B": "t", "value_pairs_set": [[1, "a"]],
        "row_condition": "n != 2", "condition_parser": "spark",
    }  # fmt: skip
    rule = Expectation(id="r", type="expect_column_pair_values_to_be_in_set", kwargs=kwargs)
    found = frame.where(compiled(rule, frame.schema).unexpected).collect()
    assert [tuple(row) for row in found] == [(3, "a"), (3, None)]


NOT_JSON_HERE = ["NaN", "-Infinity", '{"a": 1, "a": 2}', '"\\ud83d"']
TEXTS = [
    "", " ", "null", "nul", "true", "01", "-0", "1.", "1e400", ".5", '"x"', "'x'", '"a\nb"', "{}", '{"a": 1,}', "[1,]", "[1, 2",
    "[]", " [1] ", "[1] x", "1 2", "1,2", "1],[2", "{a: 1}", "// c", "\ufeff1", "+1", "0x1", "é", "1\x00", "[" * 900 + "]" * 900,
]  # fmt: skip


def test_json_is_the_standards(spark: SparkSession) -> None:
    def parses(text: str) -> bool:
        try:
            json.loads(text)
        except ValueError:
            return False
        return True

    assert all(parses(text) for text in NOT_JSON_HERE)
    rule = "expect_column_values_to_be_json_parseable"
    assert unexpected(spark, rule, [*NOT_JSON_HERE, *TEXTS]) == [
        *NOT_JSON_HERE,
        *[text for text in TEXTS if not parses(text)],
    ]


FORMATS = [
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%d/%b/%y",
    "%I:%M %p",
    "%m-%d",
    "%d %B %Y",
    "%y%m%d",
    "%H:%M:%S.%f",
    "%d%%",
    "%Y-%j",
]
MOMENTS = [
    "2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29", "2024-2-3", "2024-13-01", "2024-04-31", "0000-01-01", "02-29", "02-28",
    "2024-12-31 23:59:60", "2024-12-31 23:59:59", "2024-12-31  23:59:59", "2024-12-31 23:59:59 ", "31/Dec/24", "31/dec/69", "31/DEC/68",
    "29/Feb/23", "12:30 PM", "13:30 PM", "0:30 am", "29 February 2024", "30 feb 2024", "240229", "111", "1111111", "10:11:12.1",
    "10:11:12.1234567", "7%", "2024-366", "2023-366", "2024-0", "", "\n2024-01-01", "2024-01-01\n",
]  # fmt: skip
ONLY_IN_PYTHON = ["٢٠٢٤-01-01"]


@pytest.mark.parametrize("form", FORMATS)
def test_formats_read_what_python_reads_and_digits_are_ascii(spark: SparkSession, form: str) -> None:
    def reads(text: str) -> bool:
        try:
            datetime.strptime(text, form)  # noqa: DTZ007  of no zone
        except ValueError:
            return False
        return True

    rule = "expect_column_values_to_match_strftime_format"
    found = unexpected(spark, rule, [*MOMENTS, *ONLY_IN_PYTHON], strftime_format=form)
    assert found == [
        text for text in [*MOMENTS, *ONLY_IN_PYTHON] if not reads(text) or text in ONLY_IN_PYTHON
    ]
