"""Expectations of all rows together say what Great Expectations says of the same frame."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Observation, SparkSession

from tests.profile import FULL
from tests.quality.gx import Gx
from tidemill.model import Expectation, Quality, Suite
from tidemill.quality.aggregates import aggregated, observed
from tidemill.quality.watch import Watched, judged

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1800)]
SCHEMA = "row INT, n BIGINT, i INT, d DOUBLE, m DECIMAL(12, 2), at TIMESTAMP, day DATE, nested STRUCT<x: INT>"
BOUNDS: dict[str, list[Any]] = {
    "n": [-1, 0, 1, 2.5, 10],
    "i": [-1, 0, 1, 2.5, 10],
    "d": [-1, 0, 0.5, 1, 3.5],
    "m": [0, 0.5, 1, 2.25],
    "at": ["1970-01-01 00:00:00", "2024-02-29 12:00:00", "2025-01-01 00:00:00"],
    "day": ["1970-01-01", "2024-02-29", "2025-01-01"],
}
TIMES = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=UTC)]
DAYS = [date(1970, 1, 1), date(2024, 2, 29), date(2024, 12, 31)]


def maybe(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


rows = st.tuples(
    maybe(-1, 0, 1, 2, 10), maybe(-1, 0, 1, 2, 10), maybe(-0.0, 0.5, 1.0, 3.5, math.inf, math.nan),
    maybe(Decimal("0.50"), Decimal("-1.25"), Decimal("2.25")), maybe(*TIMES), maybe(*DAYS),
    st.none() | st.tuples(maybe(0, 1, 2)),
)  # fmt: skip
frames = st.lists(rows, max_size=12).map(lambda some: [(i, *each) for i, each in enumerate(some)])
KINDS = {
    "expect_column_min_to_be_between": list(BOUNDS),
    "expect_column_max_to_be_between": list(BOUNDS),
    "expect_column_mean_to_be_between": ["n", "i", "d", "m"],
    "expect_column_sum_to_be_between": ["n", "i", "d", "m"],
    "expect_column_stdev_to_be_between": ["n", "i", "d", "m"],
    "expect_column_proportion_of_non_null_values_to_be_between": ["n", "d", "at"],
}


@st.composite
def expectations(draw: Any) -> dict[str, Any]:
    kind = draw(
        st.sampled_from([*KINDS, "expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"])
    )
    condition = draw(st.sampled_from([{}, {"row_condition": "n > 0", "condition_parser": "spark"}]))
    if kind == "expect_table_row_count_to_equal":
        return {"type": kind, "kwargs": {"value": draw(st.integers(0, 3)), **condition}}
    column = draw(st.sampled_from(KINDS.get(kind, ["n"])))
    choices = [0, 0.5, 1] if "proportion" in kind else [0, 1, 5] if "row_count" in kind else BOUNDS[column]
    low, high = sorted([draw(st.sampled_from(choices)), draw(st.sampled_from(choices))])
    strict = {"strict_min": draw(st.booleans()), "strict_max": draw(st.booleans())} if low != high else {}
    limits = draw(st.sampled_from([{"min_value": low, "max_value": high, **strict}, {"min_value": low}]))
    named = {} if "row_count" in kind else {"column": column}
    return {"type": kind, "kwargs": {**named, **limits, **condition}}


def suite_of(*bodies: dict[str, Any]) -> Suite:
    return Suite(
        name="s", expectations=tuple(Expectation(id=str(i), **body) for i, body in enumerate(bodies))
    )


def seen(frame: DataFrame, suite: Suite) -> list[tuple[Any, bool]]:
    """What one pass over the frame observes."""
    told = Observation()
    frame.observe(told, *observed(suite, frame.schema)).write.format("noop").mode("overwrite").save()
    return [(each.value, each.met) for each in aggregated(suite, told.get)]


@pytest.fixture(scope="module")
def gx() -> Gx:
    return Gx()


# To shrink a failing example would take GX hours.
@settings(
    max_examples=20 if FULL else 5,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(some=frames, bodies=st.lists(expectations(), min_size=6, max_size=12))
def test_the_verdicts_are_those_of_gx(
    spark: SparkSession, gx: Gx, some: list[Any], bodies: list[dict[str, Any]]
) -> None:
    frame = spark.createDataFrame(some, SCHEMA)
    ours = seen(frame, suite_of(*bodies))
    for body, (value, met), theirs in zip(bodies, ours, gx.says(frame, bodies), strict=True):
        assert "error" not in theirs, (body, theirs)
        assert met == theirs["success"], (body, value, theirs, some)
        if isinstance(value, (int, float, Decimal)) and not isinstance(theirs["observed"], str):
            said = theirs["observed"]
            assert math.isnan(value) if said is None else math.isclose(value, said, rel_tol=1e-9)


def test_of_nothing_only_counts_are_known(spark: SparkSession) -> None:
    bodies = [
        {"type": "expect_column_min_to_be_between", "kwargs": {"column": "n", "min_value": 0}},
        {"type": "expect_column_sum_to_be_between", "kwargs": {"column": "d", "min_value": 0}},
        {"type": "expect_column_stdev_to_be_between", "kwargs": {"column": "d", "min_value": 0}},
        {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 0}},
        {
            "type": "expect_column_proportion_of_non_null_values_to_be_between",
            "kwargs": {"column": "nested.x", "max_value": 0},
        },
    ]
    found = seen(spark.createDataFrame([], SCHEMA), suite_of(*bodies))
    assert found == [(None, False), (None, False), (None, False), (0, True), (None, True)]


def test_a_decimal_is_compared_with_the_bound_as_it_is_written(spark: SparkSession, gx: Gx) -> None:
    body = {"type": "expect_column_min_to_be_between", "kwargs": {"column": "m", "min_value": 0.1}}
    frame = spark.createDataFrame([(0, Decimal("0.10"))], "row INT, m DECIMAL(12, 2)")
    assert seen(frame, suite_of(body)) == [(Decimal("0.10"), True)]
    (theirs,) = gx.says(frame, [body])
    assert theirs["success"]


def test_a_date_that_python_has_no_words_for_is_told_as_a_text(spark: SparkSession) -> None:
    """One is in a history, and over the table, what it is in a stream: the record's fault, not the run's."""
    names = {"day": "+12000-01-02", "at": "+12000-01-02 03:04:05.000006"}
    body = suite_of(
        *[
            {"type": "expect_column_max_to_be_between", "kwargs": {"column": name, "min_value": "2024-01-01"}}
            for name in names
        ]
    )
    micros = 316516302245000006  # 12000-01-02 03:04:05.000006
    frame = spark.range(1).selectExpr("make_date(12000, 1, 2) AS day", f"timestamp_micros({micros}) AS at")
    watched = Watched(Quality(inputs={"events": body}))
    watched.history("events", frame).write.format("noop").mode("overwrite").save()
    over_the_table, _ = judged(body, frame)
    for verdict in (*watched.verdicts(), over_the_table):
        assert [(each.value, each.met) for each in verdict.results] == [
            (each, True) for each in names.values()
        ]
