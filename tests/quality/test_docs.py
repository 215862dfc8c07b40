"""``tidemill docs`` of a pipeline that has run: a page for each batch and each chunk, with what their rows say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from tests.quality.feed import BETWEEN, NOT_NULL, Feed, Reading, expectation, reading, suite
from tidemill.cli.app import app
from tidemill.cli.shell import Hands

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

UNIQUE = "expect_column_values_to_be_unique"
SUITE = suite(
    expectation(BETWEEN, column="v", min_value=0, max_value=9),
    expectation("expect_column_max_to_be_between", column="v", max_value=20),
    expectation(UNIQUE, column="v"),
)
OF_INPUT = suite(expectation(NOT_NULL, column="v"))
BATCHES = [
    [reading(1, 5), reading(2, 30), reading(3, 1)],
    [reading(4, None), reading(5, 5)],
    [reading(6, 7, day=2)],
]


def of_rows(rows: Sequence[Reading]) -> list[tuple[bool, dict[str, Any]]]:
    values = [row["v"] for row in rows if row["v"] is not None]
    wrong = sum(not 0 <= v <= 9 for v in values)
    counts = {"element_count": len(rows), "missing_count": len(rows) - len(values), "unexpected_count": wrong}
    return [(not wrong, counts), (max(values) <= 20, {"observed_value": max(values)})]


def said(page: dict[str, Any]) -> list[tuple[bool, dict[str, Any]]]:
    names = ("element_count", "missing_count", "unexpected_count", "observed_value")
    return [
        (each["success"], {name: each["result"][name] for name in names if name in each["result"]})
        for each in page["results"]
    ]


def test_each_batch_and_each_chunk_has_a_page(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, quality={"suite": SUITE, "inputs": {"events": OF_INPUT}})
    for rows in BATCHES:
        feed.put(*rows)
    assert feed.run() is None
    done = feed.backfill("2024-01-01", "2024-01-02")
    site = tmp_path / "site"

    asked = CliRunner().invoke(
        app, ["docs", "feed", "--out", str(site), "--json"], obj=Hands(engine=lambda *_, **__: feed.engine)
    )

    assert asked.exit_code == 0, asked.output
    index = json.loads(asked.stdout)
    pages = {of: [each for each in index["validations"] if each["of"] == of] for of in ("", "events")}
    day = [*BATCHES[0], *BATCHES[1]]
    assert [(each["part"], each["intervals"]) for each in pages[""]] == [
        ("chunk 1", ["2024-01-01"]),
        ("batch 2", ["2024-01-02"]),
        ("batch 1", ["2024-01-01"]),
        ("batch 0", ["2024-01-01"]),
    ]
    assert pages[""][0]["run"] == done.run
    bodies = [json.loads((site / each["json"]).read_text()) for each in pages[""]]
    # Of the five readings of the day two have the value 5; batches are not asked.
    twice = (False, {"element_count": 5, "missing_count": 1, "unexpected_count": 2})
    assert [said(body) for body in bodies] == [
        [*of_rows(day), twice],
        *[of_rows(rows) for rows in reversed(BATCHES)],
    ]
    assert [each["success"] for each in pages["events"]] == [False, True, False, True]
    for each in index["validations"]:
        assert (site / each["page"]).is_file()
    (status,) = feed.engine.status("feed")
    assert status.last_batch == 2  # pages beside the ledger or elsewhere change nothing
