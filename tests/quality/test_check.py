"""A suite that does not fit its rows is found out by `validate`, with file and line, and not when rows come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.quality.keys import unique
from tidemill import Engine
from tidemill.config import parse_pipeline
from tidemill.config.suites import suite_of
from tidemill.config.text import lined
from tidemill.errors import ConfigError, SourceError
from tidemill.model import Suite
from tidemill.model.expectations import IN_GX, KINDS, NOT_IN_GX
from tidemill.quality.check import check
from tidemill.quality.in_gx import check_in_gx

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]
SCHEMA = (
    "n INT, d DOUBLE, t STRING, at TIMESTAMP, day DATE, b BOOLEAN, m DECIMAL(10, 2), nested STRUCT<x: INT>, "
    "k INT, tags ARRAY<STRING>, more MAP<STRING, INT>, raw BINARY NOT NULL"
)


def where(
    condition: str, kind: str = "expect_column_values_to_not_be_null", **kwargs: Any
) -> tuple[str, Any]:
    return kind, {"column": "n", "row_condition": condition, "condition_parser": "spark", **kwargs}


def suite(*expectations: tuple[str, dict[str, Any]]) -> Suite:
    body = {"name": "s", "expectations": [{"type": kind, "kwargs": kwargs} for kind, kwargs in expectations]}
    return suite_of(lined(Path("s.yml"), json.dumps(body, indent=1)))


BETWEEN, IN_SET, REGEX = (
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_match_regex",
)
FITS = [
    (BETWEEN, {"column": "n", "min_value": 1, "max_value": 2.5}),
    (BETWEEN, {"column": "n", "min_value": -(2**64), "max_value": 10**40}),
    (BETWEEN, {"column": "at", "min_value": "2024-01-01"}),
    (BETWEEN, {"column": "day", "min_value": "2024-01-01"}),
    (BETWEEN, {"column": "m", "max_value": 0.5}),
    (BETWEEN, {"column": "nested.x", "max_value": 5}),
    (IN_SET, {"column": "t", "value_set": ["a", None]}),
    (IN_SET, {"column": "n", "value_set": ["1", 2]}),
    (IN_SET, {"column": "n", "value_set": [1, 2**64]}),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["n", "n"], "sum_total": 2**64}),
    (REGEX, {"column": "t", "regex": r"(?<year>\d{4})"}),
    ("expect_column_values_to_match_strftime_format", {"column": "t", "strftime_format": "%Y-%j"}),
    ("expect_column_values_to_be_json_parseable", {"column": "t"}),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["n", "d"], "sum_total": 1}),
    ("expect_column_sum_to_be_between", {"column": "n", "max_value": 2**70}),
    ("expect_column_mean_to_be_between", {"column": "m", "min_value": 0.5}),
    ("expect_column_min_to_be_between", {"column": "nested.x", "min_value": 1}),
    ("expect_column_max_to_be_between", {"column": "day", "max_value": "2030-01-01"}),
    ("expect_column_proportion_of_non_null_values_to_be_between", {"column": "t", "min_value": 0.9}),
    ("expect_table_row_count_to_be_between", {"min_value": 1}),
    ("expect_column_to_exist", {"column": "not_there"}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": ["not_there"]}),
    where("size(tags) > 0 AND tags[0] = 'x' OR get(tags, n) = 'x' OR more['a'] > 0"),
    where("CAST(n AS BIGINT) - k - nested.x > 0 OR try_divide(n, d) > 1 OR try_subtract(n, k) > 0"),
    where(
        "n > 0 AND k > 0 AND d > 0 AND t > '' AND m > 0 AND at > '2024-01-01' AND nested.x > 0 AND raw > ''"
    ),
]


def test_a_suite_that_fits_is_left_in_peace(spark: SparkSession) -> None:
    check(suite(*FITS), spark.createDataFrame([], SCHEMA).schema, spark)


@pytest.mark.parametrize(
    ("kind", "kwargs", "says"),
    [
        (BETWEEN, {"column": "nn", "min_value": 1}, "there is no column 'nn'"),
        (BETWEEN, {"column": "nested.y", "min_value": 1}, "there is no column 'nested.y'"),
        (BETWEEN, {"column": "nested.x.y", "min_value": 1}, "there is no column 'nested.x.y'"),
        (BETWEEN, {"column": "t", "min_value": 1}, "cannot be cast"),
        (BETWEEN, {"column": "n", "min_value": "2024-01-01"}, "mismatch"),
        (BETWEEN, {"column": "at", "min_value": 5}, "mismatch"),
        (BETWEEN, {"column": "b", "min_value": 1}, "data type mismatch"),
        (IN_SET, {"column": "n", "value_set": ["a"]}, "cannot be cast"),
        (REGEX, {"column": "t", "regex": "(?P<year>x)"}, "not a regular expression of Java's"),
        (REGEX, {"column": "t", "regex": "("}, "not a regular expression of Java's"),
        (
            "expect_column_values_to_match_strftime_format",
            {"column": "t", "strftime_format": "%Q"},
            "no text can be read",
        ),
        (
            BETWEEN,
            {"column": "n", "min_value": 1, "row_condition": "nn > 1", "condition_parser": "spark"},
            "nn",
        ),
        (
            BETWEEN,
            {"column": "n", "min_value": 1, "row_condition": "n >", "condition_parser": "spark"},
            "yntax",
        ),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "n", "column_B": "t"},
            "cannot be cast",
        ),
        ("expect_multicolumn_sum_to_equal", {"column_list": ["n", "at"], "sum_total": 1}, "mismatch"),
        (
            "expect_column_values_to_be_of_type",
            {"column": "n", "type_": "INT"},
            "no type of Spark's is called INT",
        ),
        ("expect_column_mean_to_be_between", {"column": "t", "min_value": 1}, "cannot be cast"),
        ("expect_column_sum_to_be_between", {"column": "b", "min_value": 1}, "mismatch"),
        ("expect_column_max_to_be_between", {"column": "n", "max_value": "2024-01-01"}, "mismatch"),
        ("expect_column_stdev_to_be_between", {"column": "x", "min_value": 1}, "there is no column 'x'"),
        # What one record alone may bring, and a live batch stumbles over.
        (*where("tags[0] = 'x'"), "INVALID_ARRAY_INDEX"),
        (*where("exists(tags, t -> CAST(t AS INT) > 0)"), "cannot be cast"),
        (*where("aggregate(map_values(more), 0, (a, v) -> a - v) > 0"), "overflow"),
        (*where("n - k > 0"), "overflow"),
        (*where("n - k > 0", "expect_column_max_to_be_between", min_value=0), "overflow"),
        (*where("n > 0 AND k > 0 AND d > 0 AND t > '' AND m > 0 AND nested.x - n > 0"), "overflow"),
        (*where("row_number() OVER (ORDER BY n) > 1"), "indow"),
    ],
)
def test_one_that_does_not_is_said_with_its_line(
    spark: SparkSession, kind: str, kwargs: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        check(suite(FITS[0], (kind, kwargs)), spark.createDataFrame([], SCHEMA).schema, spark)

    assert says in raised.value.message
    assert raised.value.message.startswith("s.yml:")
    assert int(raised.value.params["line"]) > 8  # the second expectation


@pytest.mark.parametrize(
    ("kind", "kwargs", "next_step"),
    [
        (BETWEEN, {"column": "a.b", "min_value": 1}, 'written in backquotes: "`a.b`"'),
        (BETWEEN, {"column": "d.zz", "min_value": 1}, "the fields of d are speed, e"),
        (BETWEEN, {"column": "d.sped", "min_value": 1}, "did you mean 'd.speed'?"),
        (BETWEEN, {"column": "d.e.q", "min_value": 1}, "the fields of d.e are height"),
        (BETWEEN, {"column": "dd.speed", "min_value": 1}, "did you mean 'd.speed'?"),
        (BETWEEN, {"column": "N", "min_value": 1}, "did you mean 'n'?"),
        (BETWEEN, {"column": "D.Speed", "min_value": 1}, "did you mean 'd.speed'?"),
        (BETWEEN, {"column": "x", "min_value": 1}, "the columns are n, land, d, `a.b`"),
        (
            IN_SET,
            {"column": "land", "value_set": ["DE", False]},
            "without them YAML reads NO and OFF as false",
        ),
        (IN_SET, {"column": "land", "value_set": ["DE", 5]}, "write the text in quotes"),
        ("expect_column_values_to_be_unique", {"column": "d.e.q"}, "the fields of d.e are height"),
        (
            BETWEEN,
            {
                "column": "n",
                "min_value": 1,
                "row_condition": 'col("lnd") == "DE"',
                "condition_parser": "great_expectations",
            },
            "did you mean 'land'?",
        ),
    ],
)
def test_what_was_meant_is_said(
    spark: SparkSession, kind: str, kwargs: dict[str, Any], next_step: str
) -> None:
    schema = spark.createDataFrame(
        [], "n INT, land STRING, d STRUCT<speed: INT, e: STRUCT<height: INT>>, `a.b` INT"
    ).schema
    check(
        suite((BETWEEN, {"column": "`a.b`", "min_value": 1}), (IN_SET, {"column": "n", "value_set": [1]})),
        schema,
        spark,
    )
    with pytest.raises(ConfigError) as raised:
        check(suite((kind, kwargs)), schema, spark)
    assert raised.value.message.startswith("s.yml:4: ")
    assert next_step in raised.value.next_step


def test_a_key_within_a_batch_is_of_plain_values(spark: SparkSession) -> None:
    for name, says in {"tags": "is an array", "nested": "is a struct", "more": "is a map"}.items():
        body = {"name": "s", "expectations": [unique("batch", column=name)]}
        with pytest.raises(ConfigError, match=says) as raised:
            check(
                suite_of(lined(Path("s.yml"), json.dumps(body, indent=1))),
                spark.createDataFrame([], SCHEMA).schema,
                spark,
            )
        assert raised.value.message.startswith("s.yml:4: ")
        assert "to_json" in raised.value.next_step


def test_every_expectation_of_gx_is_known() -> None:
    from great_expectations.expectations import core  # noqa: F401  registers them
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    assert set(list_registered_expectation_implementations()) == ({*KINDS} - NOT_IN_GX) | IN_GX


def test_gx_takes_what_tidemill_takes_and_what_it_does_not_is_said(spark: SparkSession) -> None:
    check_in_gx(suite(*FITS))
    with pytest.raises(ConfigError, match="does not take it"):
        check_in_gx(suite(("expect_column_median_to_be_between", {"column": "n", "minimum": 1})))


def test_validate_looks_at_inputs_and_at_what_the_transform_makes(
    tmp_path: Path, spark: SparkSession
) -> None:
    json_files = {"path": "in", "format": "json", "schema": "at TIMESTAMP, v INT"}
    unwritten = {"places": {"delta": {"path": "places"}, "static": True}}

    def pipeline(column: str | None, of_input: str, files: dict[str, str] = json_files) -> Engine:
        rule = {
            "name": "s",
            "expectations": [{"type": BETWEEN, "kwargs": {"column": column, "min_value": 0}}],
        }
        raw = {
            "name": "r",
            "expectations": [{"type": BETWEEN, "kwargs": {"column": of_input, "min_value": 0}}],
        }
        from tidemill.config import Project

        made = parse_pipeline(
            {
                "name": "p",
                "sources": {"events": {"files": files}, **({} if column else unwritten)},
                "event_time": {"column": "at"},
                "interval": "day",
                "transform": lambda events, **_: events.selectExpr("at", "v * 2 AS twice"),
                "quality": {"inputs": {"events": raw}, **({"suite": rule} if column else {})},
                "sink": {"delta": {"path": "out"}},
            },
            tmp_path,
        )
        return Engine(Project(str(tmp_path), {"p": made}), spark=spark)

    # The folder need not be there, if the columns are declared.
    pipeline("twice", "v").check_rules("p")
    with pytest.raises(SourceError, match="the columns of events cannot be told"):
        pipeline("twice", "v", {"path": "in", "format": "parquet"}).check_rules("p")
    with pytest.raises(ConfigError, match="there is no column 'v'"):
        pipeline("v", "v").check_rules("p")
    with pytest.raises(ConfigError, match="there is no column 'twice'"):
        pipeline("twice", "twice").check_rules("p")
    # Another input need not be there where no suite is for it, nor for the table.
    pipeline(None, "v").check_rules("p")
    with pytest.raises(ConfigError, match="there is no column 'w'"):
        pipeline(None, "w").check_rules("p")
