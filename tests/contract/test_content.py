"""Rows that differ have hashes that differ: also where only the places of nulls tell them apart, which Spark's hash passes over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.sinks.content import row_hashes

pytestmark = pytest.mark.spark
SCHEMA = "a STRING, b STRING, n ARRAY<INT>, s STRUCT<x: INT, y: INT>, m MAP<STRING, INT>, d ARRAY<STRUCT<x: INT, y: INT>>"
ROWS: Sequence[tuple[Any, ...]] = (
    ("JFK", None, None, None, None, None),
    (None, "JFK", None, None, None, None),
    (None, None, None, None, None, None),
    (None, None, [], None, None, None),
    (None, None, [None], None, None, None),
    (None, None, [1, None], None, None, None),
    (None, None, [None, 1], None, None, None),
    (None, None, [1], None, None, None),
    (None, None, None, (None, 1), None, None),
    (None, None, None, (1, None), None, None),
    (None, None, None, (None, None), None, None),
    (None, None, None, None, {}, None),
    (None, None, None, None, {"k": None}, None),
    (None, None, None, None, {"k": 1, "l": 2}, None),
    (None, None, None, None, {"k": 2, "l": 1}, None),
    (None, None, None, None, None, [(1, None), (None, 1)]),
    (None, None, None, None, None, [(None, 1), (1, None)]),
    (None, None, None, None, None, [None, (1, 1)]),
)


def test_rows_that_differ_have_other_hashes(spark: SparkSession):
    frame = spark.createDataFrame(list(ROWS), SCHEMA)

    first, second = row_hashes(frame.schema.fields)
    found = frame.select(first.alias("first"), second.alias("second")).collect()

    assert len({row["first"] for row in found}) == len({row["second"] for row in found}) == len(ROWS)


def test_a_map_hashes_by_its_entries_in_whatever_order(spark: SparkSession):
    frame = spark.range(1).select(
        F.expr("map('k', array(1), 'l', array(2))").alias("m"),
        F.expr("map('l', array(2), 'k', array(1))").alias("n"),
    )
    hashes = []
    for name in ("m", "n"):
        one = frame.select(F.col(name).alias("m"))
        first, second = row_hashes(one.schema.fields)
        hashes.append(one.select(first.alias("first"), second.alias("second")).collect())

    assert hashes[0] == hashes[1]
