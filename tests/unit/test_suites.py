"""Suites on disk: what is right is taken as GX means it; what is wrong is said with file, line and a way out."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import load_project
from tidemill.config.suites import load_suite
from tidemill.errors import ConfigError
from tidemill.model import Action, Suite
from tidemill.model.expectations import Runs
from tidemill.model.row_condition import All, Compare, Null, Sql, parse

GOOD = """\
name: flights
expectations:
  - type: expect_column_values_to_be_between
    kwargs: {column: delay, min_value: -60, max_value: 1440}
    meta: {action: quarantine, author: someone}
  - type: expect_column_values_to_be_between
    kwargs: {column: delay, max_value: 600, mostly: 0.99}
    severity: warning
  - type: expect_table_row_count_to_be_between
    kwargs: {min_value: 1}
    meta: {action: fail}
  - type: expect_column_values_to_be_unique
    kwargs: {column: flight_id}
    id: one-flight
"""
PIPELINE = """\
source: {files: {path: in, format: json, schema: "flight_id STRING, at TIMESTAMP, delay INT"}}
event_time: {column: at}
interval: day
quality: {suite: flights}
sink: {delta: {path: out}}
"""


def written(folder: Path, text: str, name: str = "flights.yml") -> Path:
    path = folder / "conf/suites" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def loaded(folder: Path, text: str, name: str = "flights.yml") -> Suite:
    return load_suite(written(folder, text, name))


def test_a_suite_is_what_it_says(tmp_path: Path):
    suite = loaded(tmp_path, GOOD)

    assert [(each.id, each.action, each.severity, each.runs, each.mostly) for each in suite.expectations] == [
        ("expect_column_values_to_be_between(delay)", Action.QUARANTINE, "critical", Runs.ROW, 1.0),
        ("expect_column_values_to_be_between(delay) #2", Action.WARN, "warning", Runs.ROW, 0.99),
        ("expect_table_row_count_to_be_between()", Action.FAIL, "critical", Runs.BATCH, 1.0),
        ("one-flight", Action.WARN, "critical", Runs.GX, 1.0),
    ]
    assert suite.expectations[1].where.endswith("flights.yml:6")


def test_json_as_gx_writes_it_is_read_with_its_lines(tmp_path: Path):
    body = {
        "name": "flights",
        "expectations": [
            {
                "type": "expect_column_values_to_match_regex",
                "kwargs": {"column": "t", "regex": "^\\d+\\/\t🙂$"},
                "meta": {},
                "severity": "critical",
            }
        ],
        "meta": {"great_expectations_version": "1.24.1"},
        "notes": None,
    }
    suite = loaded(tmp_path, json.dumps(body, indent="\t"), "flights.json")

    assert suite.expectations[0].kwargs["regex"] == "^\\d+\\/\t🙂$"
    assert suite.expectations[0].where.endswith("flights.json:4")


def one(kind: str = "expect_column_values_to_be_between", **more: Any) -> str:
    body = {"type": kind, "kwargs": {"column": "n", "min_value": 1}, **more}
    return "name: s\nexpectations:\n- " + json.dumps(body)


PREFIX, REGEX = "expect_column_values_to_be_", "expect_column_values_to_match_regex"
STRFTIME = "expect_column_values_to_match_strftime_format"


def leaving_out(condition: str, action: str = "quarantine") -> str:
    kwargs = {"column": "n", "min_value": 1, "row_condition": condition, "condition_parser": "spark"}
    return one(kwargs=kwargs, meta={"action": action})


@pytest.mark.parametrize(
    ("text", "line", "says", "next_step"),
    [
        ("- 1", 1, "a suite is a mapping", "begin with"),
        ("name: s", 1, "a list of expectations", "write"),
        ("name: s\nexpectatons: []", 2, "unknown key 'expectatons'", "did you mean 'expectations'"),
        ("expectation_suite_name: s\nexpectations: []", 1, "GX 0.x", "write it anew"),
        ("name: s\nmeta: {great_expectations_version: 0.18.2}\nexpectations: []", 2, "GX 0.18.2", "write it anew"),
        ("name: s\nexpectations:\n- expectation_type: x", 3, "GX 0.x", "the key is type"),
        (one("expect_column_values_to_be_betwen"), 3, "no expectation", "did you mean 'expect_column_values_to_be_between'"),
        (one(kwargs={"column": "n", "minvalue": 1}), 3, "unknown key 'minvalue'", "did you mean 'min_value'"),
        (one(kwargs={"min_value": 1}), 3, "column is missing", "write column"),
        (one(kwargs={"column": "n"}), 3, "neither min_value nor max_value", "write one"),
        (one(kwargs={"column": "n", "min_value": 3, "max_value": 2}), 3, "no value lies between 3 and 2", "exchange"),
        (one(kwargs={"column": "n", "min_value": 2, "max_value": 2, "strict_min": True}), 3, "no value lies", "leave strict_min out, or widen"),
        (one(kwargs={"column": "n", "min_value": 3, "max_value": 2, "strict_min": True}), 3, "no value lies", "exchange"),
        (one(kwargs={"column": "n", "min_value": 2, "max_value": "2024-01-01"}), 3, "cannot be compared", "one kind"),
        (one(kwargs={"column": "n", "min_value": {"$PARAMETER": "x"}}), 3, "suite parameters", "the value itself"),
        (one(kwargs={"column": "n", "min_value": 2, "mostly": 99}), 3, "a share between 0 and 1", "write mostly: 0.99"),
        (one(kwargs={"column": "n", "min_value": 2, "mostly": "0.9"}), 3, "a number is wanted", "write mostly: 0.9"),
        (one(kwargs={"column": "n", "min_value": 2, "mostly": "1e999"}), 3, "a number is wanted", "for example mostly: 0.9"),
        (one(kwargs={"column": "n", "min_value": 2, "strict_min": "yes"}), 3, "true or false", "write strict_min: true"),
        (one(kwargs={"column": "n", "max_value": "notadate"}), 3, "a number, a date or a time", "max_value: '2024-01-31'"),
        (one(kwargs={"column": 5, "min_value": 2}), 3, "the name of a column", "write column: '5'"),
        (one(PREFIX + "in_set", kwargs={"column": "n", "value_set": []}), 3, "one value or more", "value_set: [a, b]"),
        (one(PREFIX + "in_set", kwargs={"column": "n", "value_set": "a"}), 3, "one value or more", "write value_set: [a]"),
        (one(REGEX + "_list", kwargs={"column": "t", "regex_list": "a"}), 3, "one text or more", "write regex_list: [a]"),
        (one(REGEX + "_list", kwargs={"column": "t", "regex_list": ["a"], "match_on": "al"}), 3, "one of any, all", "match_on: all"),
        (one(REGEX, kwargs={"column": "t", "regex": False}), 3, "a text is wanted", "YAML reads NO and OFF as false"),
        (one(STRFTIME, kwargs={"column": "t", "strftime_format": "YYYY-MM-dd'T'HH:mm %%"}), 3, "with directives", "'%Y-%m-%dT%H:%M %%'"),
        (one(meta={"action": "quarantaine"}), 3, "unknown action 'quarantaine'", "did you mean 'quarantine'"),
        (one(meta={"acton": "quarantine"}), 3, "unknown key 'acton'", "did you mean 'action'?"),
        (one(meta={"Action": "quarantine"}), 3, "unknown key 'Action'", "did you mean 'action'?"),
        (one(meta={"withn": "batch"}), 3, "unknown key 'withn'", "did you mean 'within'?"),
        (one(severity="bad"), 3, "unknown severity 'bad'", "critical"),
        (one("expect_column_max_to_be_between", meta={"action": "drop"}), 3, "drop acts on rows", "use warn or fail"),
        (one("expect_column_values_to_be_unique", meta={"action": "drop"}), 3, "drop acts on rows", "use warn or fail"),
        (one("expect_column_values_to_be_dateutil_parseable"), 3, "GX does not evaluate", "in SQL"),
        (one("unexpected_rows_expectation", kwargs={"unexpected_rows_query": "SELECT 1"}), 3, "does not look", "{batch}"),
        (one(kwargs={"column": "n", "min_value": 2, "row_condition": "n > 1"}), 3, "needs condition_parser", "guide"),
        (
            one(kwargs={"column": "n", "min_value": 2, "row_condition": "n > 1", "condition_parser": "great_expectations"}),
            3, "not of the form", "guide",
        ),
        ("name: s\nexpectations:\n- {type: expect_table_row_count_to_equal, kwargs: {value: -1}}", 3, "not negative", "for example value: 5"),
        (leaving_out("n > 1 AND rand() > 0.5"), 3, "rand() gives other values each time it runs", "derive the value"),
        (leaving_out("at < current_timestamp", "drop"), 3, "current_timestamp() asks the clock", "the event time"),
        (
            ("name: s\nexpectations:\n- {type: expect_table_row_count_to_equal, id: a, kwargs: {value: 1}}\n"
            "- {type: expect_table_row_count_to_equal, id: a, kwargs: {value: 1}}"),
            3, "the id 'a' stands twice", "leave ids out",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, line: int, says: str, next_step: str):
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text)

    assert raised.value.params["line"] == line
    assert says in raised.value.message
    assert next_step in raised.value.next_step


@pytest.mark.parametrize(
    "text",
    [
        # What a condition only seems to ask; and one whose rule changes nothing may ask.
        leaving_out("now_at > '2024-01-01' AND t <> 'now()' AND `rand()` > 0 AND e.uuid = now"),
        leaving_out("at < current_timestamp()", "warn"),
        # meta is for its owner's words, too.
        one(meta={"action": "drop", "notes": "n", "owner": "o", "section": 1, "reaction": 2, "with": 3, "location": 4, 5: 6}),
    ],
)  # fmt: skip
def test_what_only_looks_wrong_is_taken(tmp_path: Path, text: str):
    assert len(loaded(tmp_path, text).expectations) == 1


def test_torn_json_is_said_with_its_line(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"flights\.json:3: not valid JSON"):
        loaded(tmp_path, '{"name": "s",\n"expectations": [\n', "flights.json")


class TestInAPipeline:
    def project(self, folder: Path, suite: str = GOOD, pipeline: str = PIPELINE) -> Any:
        written(folder, suite)
        (folder / "conf/pipelines").mkdir(parents=True, exist_ok=True)
        (folder / "conf/pipelines/departures.yml").write_text(pipeline)
        return load_project(folder)

    def test_a_suite_is_named(self, tmp_path: Path):
        suite = self.project(tmp_path).pipeline("departures").quality.suite

        assert len(suite.expectations) == 4

    def test_a_suite_that_is_not_there_is_said_where_it_is_named(self, tmp_path: Path):
        with pytest.raises(
            ConfigError, match=r"departures\.yml:4: quality\.suite: there is no suite 'flihgts'"
        ) as raised:
            self.project(tmp_path, pipeline=PIPELINE.replace("suite: flights", "suite: flihgts"))

        assert raised.value.next_step == "did you mean 'flights'?"

    @pytest.mark.parametrize(
        ("given", "next_step"),
        [
            ("conf/suites/flights.yml", "write flights"),
            ("conf/suites/flights", "write flights"),
            ("/elsewhere/flights", "write flights"),
            ("noname.yml", "write noname, and conf/suites/noname.yml, which is not there"),
        ],
    )
    def test_a_suite_is_given_by_its_name(self, tmp_path: Path, given: str, next_step: str):
        with pytest.raises(ConfigError, match=r"is a file, and a suite is given by its name") as raised:
            self.project(tmp_path, pipeline=PIPELINE.replace("suite: flights", f"suite: {given}"))

        assert raised.value.next_step == next_step

    def test_a_suite_may_stand_in_the_pipeline(self, tmp_path: Path):
        inline = PIPELINE.replace(
            "quality: {suite: flights}",
            "quality:\n  inputs:\n    events:\n      name: here\n      expectations:\n      - type: expect_nothing\n",
        )
        with pytest.raises(
            ConfigError, match=r"departures\.yml:9: expectations\.0\.type: there is no expectation"
        ):
            self.project(tmp_path, pipeline=inline)

    def test_rules_are_of_inputs_that_there_are(self, tmp_path: Path):
        with pytest.raises(ConfigError, match=r"quality\.inputs names 'event'"):
            self.project(
                tmp_path, pipeline=PIPELINE.replace("{suite: flights}", "{inputs: {event: flights}}")
            )

    def test_what_only_gx_answers_is_not_asked_of_an_input(self, tmp_path: Path):
        with pytest.raises(
            ConfigError, match=r"flights\.yml:12: one-flight is answered of rows that are written"
        ) as raised:
            self.project(
                tmp_path, pipeline=PIPELINE.replace("{suite: flights}", "{inputs: {events: flights}}")
            )

        assert raised.value.params["line"] == "12"
        assert "the suite of the table" in raised.value.next_step

    def test_what_leaves_rows_out_is_part_of_the_code_and_what_only_speaks_is_not(self, tmp_path: Path):
        def fingerprint(suite: str) -> str:
            return str(self.project(tmp_path, suite).fingerprint("departures"))

        first = fingerprint(GOOD)
        assert fingerprint(GOOD.replace("max_value: 600", "max_value: 700")) == first
        assert fingerprint(GOOD.replace("severity: warning", "severity: info")) == first
        assert fingerprint(GOOD.replace("max_value: 1440", "max_value: 1441")) != first
        assert fingerprint(GOOD.replace("quarantine", "drop")) != first
        assert fingerprint(GOOD.replace("quarantine", "warn")) != first


@pytest.mark.parametrize(
    ("value", "parser", "means"),
    [
        (None, None, None),
        ("n > 1", "spark", Sql("n > 1")),
        ('col("n") <= -1.5', "great_expectations", Compare("n", "<=", -1.5)),
        ('col("n") == 1e3', "great_expectations", Compare("n", "==", 1000.0)),
        (
            "col(\"t\") != 'a b'",
            "great_expectations__experimental__",
            Compare("t", "!=", "a b", coerced=True),
        ),
        (
            "col(\"day\") >= date('2024-01-01')",
            "great_expectations",
            Compare("day", ">=", "2024-01-01", coerced=True),
        ),
        ('col("n").notnull()', "great_expectations", Null("n", is_null=False)),
        ({"type": "pass_through", "pass_through_filter": "n > 1"}, None, Sql("n > 1")),
        (
            {"type": "and", "conditions": [{"type": "nullity", "column": {"name": "n"}, "is_null": True}]},
            None,
            All((Null("n", is_null=True),)),
        ),
        (
            {"type": "comparison", "column": {"name": "n"}, "operator": "IN", "parameter": [1]},
            None,
            Compare("n", "IN", [1]),
        ),
    ],
)
def test_a_row_condition_means_what_gx_means(value: Any, parser: str | None, means: Any):
    assert parse(value, parser) == means


@pytest.mark.parametrize(
    "value",
    [
        1, "", {"type": "comparison"}, {"type": "xor", "conditions": []}, {"type": "and", "conditions": []},
        {"type": "comparison", "column": {"name": "n"}, "operator": "IN", "parameter": 1},
        {"type": "comparison", "column": {"name": "n"}, "operator": "==", "parameter": None},
    ],
)  # fmt: skip
def test_a_row_condition_that_means_nothing_is_refused(value: Any):
    with pytest.raises(ValueError, match=r"wanted|a condition has|a comparison has"):
        parse(value, "great_expectations")
