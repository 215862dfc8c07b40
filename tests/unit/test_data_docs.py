"""Data Docs of a log that was written by hand: what they say, and that they lead nowhere but to one another."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import Project, parse_pipeline
from tidemill.engine import Engine
from tidemill.errors import ConfigError
from tidemill.ledger.facts import Fact, IntervalResult, LiveBatch, Swap, Undo, to_json
from tidemill.ledger.verdicts import Result, Verdict
from tidemill.validations import newest

LIVE, BACKFILL = "20240101T000000-aaaaaa", "20240102T000000-bbbbbb"
WILD = "<script src=//example.org/x.js>&amp; https://v</script>"


def expectation(type_: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": type_, "kwargs": kwargs}


SUITE: list[tuple[dict[str, Any], Result]] = [
    (
        expectation("expect_column_values_to_be_between", column="v", min_value=0, max_value=9),
        Result("expect_column_values_to_be_between(v)", False, 8, 5, 2),
    ),
    (
        expectation("expect_column_values_to_be_in_set", column=WILD, value_set=[WILD, 1]),
        Result(f"expect_column_values_to_be_in_set({WILD})", True, 8, 8, 0),
    ),
    (
        expectation("expect_column_values_to_match_regex", column="t", regex="^(?<!a)<b>$", mostly=0.9),
        Result("expect_column_values_to_match_regex(t)", True, 0, 0, 0),
    ),
    (
        expectation("expect_column_values_to_match_json_schema", column="t", json_schema={"title": WILD}),
        Result("expect_column_values_to_match_json_schema(t)", True),
    ),
    (
        expectation("expect_column_max_to_be_between", column="at", max_value="2024-02-01"),
        Result("expect_column_max_to_be_between(at)", False, value=WILD),
    ),
    (
        expectation("expect_table_columns_to_match_set", column_set=["v", WILD]),
        Result("expect_table_columns_to_match_set()", False, value=["v", WILD]),
    ),
    (
        expectation("expect_column_to_exist", column="v"),
        Result("expect_column_to_exist(v)", True, value=["v", "t"]),
    ),
    (
        expectation("expect_multicolumn_values_to_be_unique", column_list=["v", "t"]),
        Result("expect_multicolumn_values_to_be_unique(v, t)", True, 8, 8, 0),
    ),
    (
        expectation("expect_column_pair_values_to_be_in_set", column_A="v", column_B="t", value_pairs_set=[[1, WILD]]),
        Result("expect_column_pair_values_to_be_in_set(v, t)", False, 8, 8, 1),
    ),
    (
        expectation("unexpected_rows_expectation", unexpected_rows_query=f"SELECT '{WILD}' FROM {{batch}}"),
        Result("unexpected_rows_expectation()", False, value=3),
    ),
    (
        expectation("expect_column_distinct_values_to_be_in_set", column="v", value_set=[1]),
        Result("expect_column_distinct_values_to_be_in_set(v)", False, value={"unexpected": [WILD], "missing": [2]}),
    ),
    (
        expectation(
            "expect_column_kl_divergence_to_be_less_than",
            column="v",
            threshold=0.1,
            partition_object={"values": [1, 2], "weights": [0.5, 0.5]},
        ),
        Result("expect_column_kl_divergence_to_be_less_than(v)", False, value=0.7),
    ),
    (
        expectation(
            "expect_column_quantile_values_to_be_between",
            column="v",
            quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 1]]},
        ),
        Result("expect_column_quantile_values_to_be_between(v)", False, value={"quantiles": [0.5], "values": [7]}),
    ),
]  # fmt: skip
RESULTS = tuple(result for _, result in SUITE)
GONE = Result(f"expect_column_values_to_be_null({WILD})", False, 8, 8, 8)
OF_INPUT = Verdict("raw", (Result("expect_column_values_to_not_be_null(id)", True, 9, 9, 0),))


def engine(root: Path, quality: dict[str, Any] | None = None) -> Engine:
    judged = {
        "suite": {"name": "s", "expectations": [each for each, _ in SUITE]},
        "inputs": {
            "raw": {
                "name": "r",
                "expectations": [expectation("expect_column_values_to_not_be_null", column="id")],
            }
        },
    }
    values = {
        "name": "feed",
        "sources": {"raw": {"files": {"path": "in", "format": "json", "schema": "id INT, at TIMESTAMP"}}},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": "table"}},
        "quality": judged if quality is None else quality,
    }
    return Engine(Project(str(root), {"feed": parse_pipeline(values, root)}))


def batch(number: int, *verdicts: Verdict) -> LiveBatch:
    return LiveBatch(
        "feed",
        LIVE,
        "f",
        "q",
        number,
        {},
        {},
        False,
        added={f"2024-01-{number + 1:02}": 8},
        verdicts=verdicts,
    )


def chunk(*verdicts: Verdict) -> Swap:
    return Swap("feed", BACKFILL, 1, "f", 3, {}, {"2024-01-01": IntervalResult(8)}, verdicts=verdicts)


def logged(root: Path, *facts: Fact) -> None:
    folder = root / "table/_delta_log"
    folder.mkdir(parents=True, exist_ok=True)
    for version, fact in enumerate(facts):
        # A commit a minute, from the first second of 2024.
        body = {
            "commitInfo": {"timestamp": 1_704_067_200_000 + version * 60_000, "userMetadata": to_json(fact)}
        }
        (folder / f"{version:020d}.json").write_text(json.dumps(body) + "\n")


class Reader(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.leads: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.leads += [value or "" for name, value in attrs if name in {"href", "src", "srcset", "action"}]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("feed")
    logged(
        tmp_path,
        batch(0, OF_INPUT, Verdict("", RESULTS[1:2])),
        Undo("feed", "r", 0, {}),
        batch(1, Verdict("raw", ()), Verdict("", RESULTS)),
        chunk(OF_INPUT, Verdict("", (*RESULTS, GONE))),
    )
    engine(tmp_path).docs("feed", out=tmp_path / "site")
    return tmp_path / "site"


def test_no_page_leads_out_of_the_folder_or_runs_anything(site: Path):
    pages = [*site.rglob("*.html")]
    assert len(pages) == 1 + 2 + 5
    for page in pages:
        html = page.read_text()
        # The texts of the suite are shown, as texts; beside them there is no address.
        bare = html.replace(escape(WILD), "")
        assert not re.search(r"https?:|(?:src|href)\s*=\s*[\"']?\s*//|url\(|@import", bare), page
        read = Reader(html)
        assert not read.tags & {"script", "iframe", "img", "object", "form", "base"}, page
        assert "link" not in read.tags
        for lead in read.leads:
            target, _, place = lead.partition("#")
            found = (page.parent / target) if target else page
            assert found.resolve().is_relative_to(site.resolve()), (page, lead)
            assert found.is_file(), (page, lead)
            assert not place or f'id="{place}"' in html, (page, lead)
        assert "default-src 'none'" in html


def test_what_data_holds_is_shown_as_it_is(site: Path):
    shown = Reader((site / "validations/00000000000000000003-table.html").read_text()).text
    # In a set, a column's name, a maximum, columns, pairs, a query, a distinct value, one that is gone.
    assert shown.count(WILD) >= 8
    assert "^(?<!a)<b>$" in shown
    assert "2 unexpected values found. " in shown
    assert "40% unexpected" in shown
    assert "No longer in the suite" in shown
    assert f"{GONE.id}8 of 8 unexpected" in shown  # two cells of a row


def test_the_json_beside_a_page_is_gxs_own(site: Path):
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema

    body = json.loads((site / "validations/00000000000000000003-table.json").read_text())
    assert expectationSuiteValidationResultSchema.load(body).success is False
    assert body["suite_name"] == "s"
    met = sum(each.met for each in RESULTS)
    count = len(RESULTS) + 1
    assert body["statistics"] == {
        "evaluated_expectations": count,
        "successful_expectations": met,
        "unsuccessful_expectations": count - met,
        "success_percent": 100 * met / count,
    }
    assert body["meta"]["run_id"] == {"run_name": BACKFILL, "run_time": "2024-01-01T00:03:00+00:00"}
    assert body["meta"]["batch_parameters"]["part"] == "chunk 2"
    results = {each["expectation_config"]["meta"]["id"]: each for each in body["results"]}
    assert [*results] == [each.id for each in (*RESULTS, GONE)]
    assert [each["success"] for each in results.values()] == [each.met for each in (*RESULTS, GONE)]
    between = results["expect_column_values_to_be_between(v)"]
    assert between["expectation_config"]["kwargs"] == {"column": "v", "min_value": 0, "max_value": 9}
    assert between["result"] == {
        "element_count": 8,
        "missing_count": 3,
        "missing_percent": 37.5,
        "unexpected_count": 2,
        "unexpected_percent": 40.0,
        "unexpected_percent_total": 25.0,
        "unexpected_percent_nonmissing": 40.0,
        "partial_unexpected_list": [],
    }
    assert results["expect_column_max_to_be_between(at)"]["result"] == {"observed_value": WILD}
    assert results[GONE.id]["expectation_config"]["type"] == "expect_column_values_to_be_null"
    of_input = json.loads((site / "validations/00000000000000000000-input-raw.json").read_text())
    assert (of_input["success"], of_input["statistics"]["success_percent"]) == (True, 100)
    assert len(json.loads((site / "suites/table.json").read_text())["expectations"]) == len(SUITE)


def test_the_index_lists_the_newest_first(site: Path):
    index = json.loads((site / "index.json").read_text())
    names = ("version", "of", "success", "met", "expectations", "run", "part", "intervals", "at")
    first, second, third, *_ = [tuple(each[name] for name in names) for each in index["validations"]]
    assert first == (3, "raw", True, 1, 1, BACKFILL, "chunk 2", ["2024-01-01"], "2024-01-01T00:03:00+00:00")
    assert second[:5] == (3, "", False, 5, 14)
    assert third[:7] == (2, "", False, 5, 13, LIVE, "batch 1")
    assert [each["version"] for each in index["validations"]] == [3, 3, 2, 0, 0]
    assert {each["page"] for each in index["suites"]} == {"suites/table.html", "suites/input-raw.html"}
    shown = " ".join(Reader((site / "index.html").read_text()).text.split())
    assert shown.index("chunk 2") < shown.index("batch 1") < shown.index("batch 0")


def test_so_many_are_kept_and_no_file_of_another_is_taken(tmp_path: Path):
    site = tmp_path / "site"
    logged(tmp_path, batch(0, OF_INPUT), batch(1, OF_INPUT), batch(2, OF_INPUT))
    assert len(engine(tmp_path).docs("feed", out=site).index["validations"]) == 3
    mine = site / "validations/notes.html"
    mine.write_text("mine")
    found = engine(tmp_path).docs("feed", out=site, keep=1)
    assert [each["version"] for each in found.index["validations"]] == [2]
    names = sorted(path.name for path in (site / "validations").iterdir())
    assert names == [f"{2:020d}-input-raw.html", f"{2:020d}-input-raw.json", "notes.html"]


def test_a_long_log_is_read_from_its_end(tmp_path: Path):
    logged(tmp_path, *[batch(n % 20, OF_INPUT) if n % 3 else Undo("feed", "r", 0, {}) for n in range(1000)])
    pipeline = engine(tmp_path).project.pipeline("feed")
    expected = [n for n in range(999, -1, -1) if n % 3]
    assert [each.version for each in newest(pipeline, 300)] == expected[:300]
    assert [each.version for each in newest(pipeline, 5000)] == expected
    for version in range(400):  # as upkeep cleans it
        (tmp_path / f"table/_delta_log/{version:020d}.json").unlink()
    assert [each.version for each in newest(pipeline, 5000)] == [n for n in expected if n >= 400]


def test_a_pipeline_without_suites_has_none_and_one_without_a_table_has_an_index(tmp_path: Path):
    with pytest.raises(ConfigError, match="has no suites"):
        engine(tmp_path, {}).docs("feed")
    found = engine(tmp_path).docs("feed")
    assert found.index["validations"] == []
    assert Path(found.page) == tmp_path / "table/_tidemill/data_docs/index.html"
    assert "There is none yet" in Path(found.page).read_text()


def test_no_jvm_is_started(tmp_path: Path):
    (tmp_path / "conf/pipelines").mkdir(parents=True)
    (tmp_path / "conf/suites").mkdir()
    (tmp_path / "conf/suites/s.yml").write_text(
        json.dumps({"name": "s", "expectations": [each for each, _ in SUITE]})
    )
    (tmp_path / "conf/pipelines/feed.yml").write_text(
        "source: {files: {path: in, format: json, schema: 'id INT, at TIMESTAMP'}}\n"
        "event_time: {column: at}\ninterval: day\nquality: {suite: s}\nsink: {delta: {path: table}}\n"
    )
    logged(tmp_path, batch(0, Verdict("", RESULTS)))
    # Where there is no Java to be found, and nothing may be said beside the document.
    bare = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | {
        "PATH": str(tmp_path)
    }
    command = [sys.executable, "-m", "tidemill.cli.app", "docs", "feed", "--json", "--out", "site"]
    ran = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["validations"][0]["met"] == 5
    assert (tmp_path / "site/index.html").is_file()
