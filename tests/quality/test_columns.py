"""What the schema says of the columns is what Great Expectations says of a frame of that schema."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.quality.gx import Gx
from tidemill.model import Expectation, Suite
from tidemill.quality.columns import found

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]
SCHEMA = "row INT, t STRING, nested STRUCT<x: INT, deep: STRUCT<y: STRING>>, m DECIMAL(10, 2), `a.b` INT"
ALL = ["row", "t", "nested", "nested.x", "nested.deep", "nested.deep.y", "m", "`a.b`"]
EXIST, LIST, SET = (
    "expect_column_to_exist",
    "expect_table_columns_to_match_ordered_list",
    "expect_table_columns_to_match_set",
)
COUNT, BETWEEN = "expect_table_column_count_to_equal", "expect_table_column_count_to_be_between"
OF_TYPE, IN_TYPES = "expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"
CASES: list[tuple[str, dict[str, Any], bool]] = [
    (EXIST, {"column": "t"}, True),
    (EXIST, {"column": "T"}, False),
    (EXIST, {"column": "nested.deep.y"}, True),
    (EXIST, {"column": "t", "column_index": 1}, True),
    (EXIST, {"column": "t", "column_index": 0}, True),
    (EXIST, {"column": "t", "column_index": 2}, False),
    (EXIST, {"column": "t", "column_index": 99}, False),
    (LIST, {"column_list": ALL}, True),
    (LIST, {"column_list": ALL[::-1]}, False),
    (LIST, {"column_list": ALL[:2]}, False),
    (SET, {"column_set": ALL[::-1]}, True),
    (SET, {"column_set": ALL[:2]}, False),
    (SET, {"column_set": ALL[:2], "exact_match": False}, True),
    (SET, {"column_set": ["t", "u"], "exact_match": False}, False),
    (COUNT, {"value": len(ALL)}, True),
    (COUNT, {"value": 5}, False),
    (BETWEEN, {"min_value": 1, "max_value": 5}, False),
    (BETWEEN, {"min_value": 8}, True),
    (BETWEEN, {"max_value": 8}, True),
    (OF_TYPE, {"column": "t", "type_": "StringType"}, True),
    (OF_TYPE, {"column": "row", "type_": "LongType"}, False),
    (OF_TYPE, {"column": "row", "type_": "NumericType"}, True),
    (OF_TYPE, {"column": "m", "type_": "DecimalType"}, True),
    (OF_TYPE, {"column": "nested.x", "type_": "IntegerType"}, True),
    (IN_TYPES, {"column": "row", "type_list": ["LongType", "IntegerType"]}, True),
    (IN_TYPES, {"column": "row", "type_list": ["LongType", "NoSuchType"]}, False),
]


def test_the_schema_answers_as_gx_does(spark: SparkSession) -> None:
    frame = spark.createDataFrame([], SCHEMA)
    bodies = [{"type": kind, "kwargs": kwargs} for kind, kwargs, _ in CASES]
    suite = Suite(
        name="s", expectations=tuple(Expectation(id=str(i), **body) for i, body in enumerate(bodies))
    )
    ours = found(suite, frame.schema)
    theirs = Gx().says(frame, bodies)
    for (kind, kwargs, met), mine, gx in zip(CASES, ours, theirs, strict=True):
        assert mine.met is met, (kind, kwargs, mine.value)
        assert gx.get("success") is met, (kind, kwargs, gx)
        if kind != EXIST:
            assert mine.value == gx["observed"], (kind, kwargs)
