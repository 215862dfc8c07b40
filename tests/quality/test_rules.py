"""Rules over rows: what they count in one pass, which rows they leave out, and for which reasons; against plain Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import Observation, SparkSession
from pyspark.sql import functions as F

from tidemill.config.suites import suite_of
from tidemill.config.text import lined
from tidemill.model import Suite
from tidemill.quality.predicates import _finds
from tidemill.quality.rules import DROPPED, QUARANTINED, Rules

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]
SCHEMA = "n INT, t STRING"
BETWEEN, NOT_NULL, IN_SET = (
    "expect_column_values_to_be_between",
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_be_in_set",
)
EXPECTATIONS: list[dict[str, Any]] = [
    {"type": BETWEEN, "kwargs": {"column": "n", "min_value": 0}, "meta": {"action": "quarantine"}},
    {"type": BETWEEN, "kwargs": {"column": "n", "max_value": 5, "mostly": 0.5}},
    {"type": NOT_NULL, "kwargs": {"column": "n"}, "meta": {"action": "drop"}},
    {"type": NOT_NULL, "kwargs": {"column": "t"}, "meta": {"action": "quarantine"}},
    {
        "type": IN_SET,
        "kwargs": {"column": "t", "value_set": ["a"], "row_condition": "n > 2", "condition_parser": "spark"},
        "meta": {"action": "drop"},
    },
    {"type": IN_SET, "kwargs": {"column": "t", "value_set": ["a"]}},
]
Row = tuple[int | None, str | None]


def suite() -> Suite:
    return suite_of(lined(Path("s.yml"), json.dumps({"name": "s", "expectations": EXPECTATIONS}, indent=1)))


def judged(number: int, row: Row) -> tuple[bool, bool, bool]:
    """Inside, looked at, unexpected: what GX's documentation says, of one row."""
    n, t = row
    match number:
        case 0:
            return True, n is not None, n is not None and n < 0
        case 1:
            return True, n is not None, n is not None and n > 5
        case 2:
            return True, True, n is None
        case 3:
            return True, True, t is None
        case 4:
            inside = n is not None and n > 2
            return inside, inside and t is not None, inside and t is not None and t != "a"
        case _:
            return True, t is not None, t is not None and t != "a"


rows_of = st.lists(
    st.tuples(st.none() | st.integers(-2, 8), st.sampled_from([None, "a", "b", ""])), max_size=9
)


@settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(rows=rows_of)
def test_one_pass_counts_what_each_rule_finds_and_leaves_out(spark: SparkSession, rows: list[Row]) -> None:
    frame = spark.createDataFrame(rows, SCHEMA)
    rules = Rules.of(suite(), frame.schema)
    seen = Observation()
    watched = rules.marked(frame).observe(seen, *rules.counts())
    kept = rules.unmarked(watched.where(~rules.left_out)).collect()
    found = rules.counted(seen.get)
    for number, each in enumerate(found):
        told = [judged(number, row) for row in rows]
        sums = tuple(sum(flag[i] for flag in told) for i in range(3))
        assert (each.rows, each.looked_at, each.unexpected) == sums, each.expectation.id
    aside = [row for row in rows if judged(0, row)[2] or judged(3, row)[2]]
    dropped = [row for row in rows if row not in aside and (judged(2, row)[2] or judged(4, row)[2])]
    assert (seen.get[QUARANTINED], seen.get[DROPPED]) == (len(aside), len(dropped))
    assert len(rows) == len(kept) + len(aside) + len(dropped)
    assert sorted(map(str, map(tuple, kept))) == sorted(str(r) for r in rows if r not in [*aside, *dropped])


def test_the_reasons_are_the_rules_that_want_the_row_kept(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(-1, None), (None, None), (3, "b"), (1, "a")], SCHEMA)
    rules = Rules.of(suite(), frame.schema)
    below, _, _, no_text, _, _ = (each.id for each in suite().expectations)
    told = rules.marked(frame).select(rules.reasons.alias("why"), rules.quarantined.alias("aside")).collect()
    assert [(row.why, row.aside) for row in told] == [
        ([below, no_text], True),
        ([no_text], True),
        ([], False),
        ([], False),
    ]


def test_what_rules_count_alike_is_counted_once(spark: SparkSession) -> None:
    rules = Rules.of(suite(), spark.createDataFrame([], SCHEMA).schema)
    names = [str(column).rpartition(" AS ")[2] for column in rules.counts()]
    # Every row, and those under the condition; one mark for six findings and for n, t under the condition, and t that
    # are not looked at; the rows left out.
    assert len(names) == 2 + 1 + 2


def test_a_suite_that_only_warns_leaves_every_row(spark: SparkSession) -> None:
    plain = [{name: part for name, part in each.items() if name != "meta"} for each in EXPECTATIONS]
    body = lined(Path("s.yml"), json.dumps({"name": "s", "expectations": plain}, indent=1))
    frame = spark.createDataFrame([(-1, None), (None, None)], SCHEMA)
    rules = Rules.of(suite_of(body), frame.schema)
    assert not rules.change_rows
    assert rules.marked(frame).where(~rules.left_out).select(rules.reasons.alias("why")).collect() == [
        ([],),
        ([],),
    ]


def test_many_rules_are_counted_as_few_are_in_however_many_parts(spark: SparkSession) -> None:
    least = range(-30, 31)
    rules_of = [{"type": BETWEEN, "kwargs": {"column": "n", "min_value": low}} for low in least]
    body = lined(Path("s.yml"), json.dumps({"name": "s", "expectations": rules_of}, indent=1))
    values = [None if i % 7 == 0 else (i * 37) % 83 - 41 for i in range(2_000)]
    frame = spark.createDataFrame([(value,) for value in values], "n INT").repartition(9)
    rules = Rules.of(suite_of(body), frame.schema)
    seen = rules.marked(frame).agg(*rules.counts()).first()
    assert seen is not None
    known = [value for value in values if value is not None]
    assert [(each.rows, each.looked_at, each.unexpected) for each in rules.counted(seen.asDict())] == [
        (len(values), len(known), sum(value < low for value in known)) for low in least
    ]


@pytest.mark.parametrize(
    "regex",
    ["(?i)bot|spider", "(?i)^Jij|kiwi", "(?i)BOT", "(?i)iij|I", "(?i)", "bot|^spider", "^a|b$", "(?i)st|ss"],
)
def test_a_text_is_looked_for_as_such_where_the_engine_would_find_it(spark: SparkSession, regex: str) -> None:
    words = ["bot", "SPIDER", "Jij", "kiwi", "iij", "a", "b", "st", "ss"]
    # Of other alphabets, or small in another way there than here.
    odd = ["\u0130", "\u0131", "\u212a", "\u017f", "\u00df", "\ufb06", "\u03a3", "\u00cc"]
    texts = [*words, *odd, *(word.upper() for word in words), *(one + word for one in odd for word in words)]
    texts += [word.replace("s", "\u017f").replace("i", "\u0130") for word in words] + [
        "",
        "x\nspider",
        "spi der",
    ]
    frame = spark.createDataFrame([(text,) for text in [*texts, None]], "v STRING")
    value = F.col("v")
    apart = frame.where(~_finds(value, regex).eqNullSafe(value.rlike(regex)))
    assert apart.collect() == []
