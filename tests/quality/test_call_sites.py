"""Rules are compiled without the place of each column, and users' own columns keep theirs."""

from __future__ import annotations

import pytest
from pyspark.errors import ArithmeticException
from pyspark.errors.utils import is_debugging_enabled
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.model import Expectation, Suite
from tidemill.quality.call_sites import without_call_sites
from tidemill.quality.rules import Rules


@pytest.mark.spark
def test_an_error_of_a_user_s_column_names_its_line_though_rules_were_compiled_before(
    spark: SparkSession,
) -> None:
    frame = spark.createDataFrame([(1, 0)], "a INT, b INT")
    rule = Expectation(
        id="a", type="expect_column_values_to_be_between", kwargs={"column": "a", "min_value": 0}
    )
    marked = Rules.of(Suite(name="s", expectations=(rule,)), frame.schema).marked(frame)

    with pytest.raises(ArithmeticException, match=r"was called from\n.*test_call_sites\.py"):
        marked.select(F.col("a") / F.col("b")).collect()


def test_it_is_as_before_whatever_happens_inside() -> None:
    before = is_debugging_enabled()

    def fail() -> None:
        with without_call_sites(), without_call_sites():
            assert not is_debugging_enabled()
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert is_debugging_enabled() == before
