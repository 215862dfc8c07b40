"""Configuration: what a person wrote wrong is named with file, line, field and the next thing to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from jsonschema import Draft202012Validator

from tidemill.config import find_root, json_schema, load_project, parse_pipeline
from tidemill.errors import ConfigError
from tidemill.model import Gate

GOOD = """\
name: clicks
source:
  files:
    path: data/in
    format: json
    schema: "at TIMESTAMP, id STRING"
event_time:
  column: at
  watermark: 10m
interval: day
sink:
  delta:
    path: data/out
    mode: append
trigger:
  processing_time: 10 seconds
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "conf" / "pipelines").mkdir(parents=True)
    (tmp_path / "conf" / "env").mkdir()
    return tmp_path


def write(root: Path, text: str = GOOD, name: str = "clicks") -> Path:
    path = root / "conf" / "pipelines" / f"{name}.yml"
    path.write_text(dedent(text), encoding="utf-8")
    return path


def overlay(root: Path, text: str) -> Path:
    path = root / "conf" / "env" / "prod.yml"
    path.write_text(dedent(text), encoding="utf-8")
    return path


def refusal(root: Path, env: str | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        load_project(root, env=env)
    return refused.value


def test_a_good_file_becomes_a_pipeline_with_paths_below_the_project(root: Path):
    write(root)

    pipeline = load_project(root).pipeline("clicks")

    assert pipeline.table.path == str(root / "data" / "out")
    assert pipeline.inputs["events"].source.path == str(root / "data" / "in")
    assert pipeline.event_time.watermark == timedelta(minutes=10)
    assert pipeline.trigger.processing_time == timedelta(seconds=10)
    assert pipeline.table.state_path == str(root / "data" / "out" / "_tidemill")


def test_a_pipeline_without_a_name_is_named_after_its_file(root: Path):
    write(root, GOOD.replace("name: clicks\n", ""), name="visits")

    assert list(load_project(root).pipelines) == ["visits"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("hdfs://host/in", "hdfs://host/in"),
        ("s3://bucket/in/", "s3://bucket/in"),
        ("s3a://bucket/in", "s3://bucket/in"),
    ],
)
def test_addresses_of_other_file_systems_stay_as_they_are(root: Path, written: str, kept: str):
    write(root, GOOD.replace("data/in", written))

    assert load_project(root).pipeline("clicks").inputs["events"].source.path == kept


def test_a_date_starts_the_table_at_midnight_utc(root: Path):
    write(root, GOOD + "start: 2013-01-05\n")

    assert load_project(root).pipeline("clicks").start == datetime(2013, 1, 5, tzinfo=UTC)


# One row a mistake: what is replaced in the good file, by what, and then line, field, and a part of message
# and next step.
MISTAKES = {
    "an unknown key, near a known one": (
        "watermark:",
        "watermrk:",
        9,
        "event_time.watermrk",
        "watermrk",
        "'watermark'",
    ),
    "an unknown key, near none": ("interval: day", "interval: day\nqqq: 1", 11, "qqq", "'qqq'", "schema"),
    "a missing field": ("  column: at\n", "", 7, "event_time.column", "required", "schema"),
    "a missing section": ("interval: day\n", "", 1, "interval", "required", "schema"),
    "a wrong type": ("interval: day", "interval: day\nchunk: many", 11, "chunk", "integer", "schema"),
    "a wrong choice": ("format: json", "format: xml", 5, "source.files.format", "'parquet'", "schema"),
    "a grain that is none": (
        "interval: day",
        "interval: fortnight",
        10,
        "interval.grain",
        "'month'",
        "schema",
    ),
    "a name that is none": ("name: clicks", "name: My Clicks", 1, "name", "pattern", "schema"),
    "a duration that is none": (
        "watermark: 10m",
        "watermark: soon",
        9,
        "event_time.watermark",
        "15m",
        "schema",
    ),
    "a negative duration": (
        "interval: day",
        "interval: day\nlookback: -5",
        11,
        "lookback",
        "negative",
        "schema",
    ),
    "two kinds of source": (
        '    schema: "at TIMESTAMP, id STRING"',
        '    schema: "at TIMESTAMP"\n  delta: {path: t}',
        2,
        "source",
        "exactly one of",
        "schema",
    ),
    "text without a schema": (
        '    schema: "at TIMESTAMP, id STRING"\n',
        "",
        3,
        "source.files",
        "needs a schema",
        "",
    ),
    "an upsert without a key": (
        "mode: append",
        "mode: upsert",
        12,
        "sink.delta",
        "needs key and order_by",
        "",
    ),
    "an order without an upsert": (
        "mode: append",
        "order_by: [at]",
        12,
        "sink.delta",
        "belongs to mode upsert",
        "",
    ),
    "a cron line that is none": (
        "processing_time: 10 seconds",
        'cron: "* * *"',
        16,
        "trigger.cron",
        "not a cron line",
        "",
    ),
    "two triggers": (
        "  processing_time: 10 seconds",
        "  processing_time: 10s\n  available_now: true",
        15,
        "trigger",
        "exactly one of",
        "",
    ),
    "a key that stands twice": (
        "interval: day",
        "interval: day\ninterval: hour",
        11,
        "interval",
        "twice",
        "one of",
    ),
    "a nested key that stands twice": (
        "  watermark: 10m",
        "  column: x",
        9,
        "event_time.column",
        "twice",
        "one of",
    ),
    "a tab": ("  column: at", "\tcolumn: at", 8, "", "not valid YAML", "spaces"),
    "a bracket that stays open": ("interval: day", "interval: [day", 11, "", "not valid YAML", "spaces"),
    "a tag": ("interval: day", "interval: !!python/object:x day", 10, "", "not a plain value", ""),
    "an impossible date": (
        "interval: day",
        "interval: day\nstart: 2013-02-30",
        11,
        "",
        "not a plain value",
        "",
    ),
    "a key that is no text": ("interval: day", "interval: day\n7: x", 11, "7", "not a text", "quote"),
    "a schema file that is not there": (
        '"at TIMESTAMP, id STRING"',
        "conf/schemas/click.json",
        6,
        "source.files.schema",
        "conf/schemas/click.json is not there",
        "click.json",
    ),
    "a variable that is not set": (
        "path: data/in",
        "path: ${env:TIDEMILL_NO_SUCH}/in",
        4,
        "source.files.path",
        "TIDEMILL_NO_SUCH is not set",
        "export TIDEMILL_NO_SUCH=",
    ),
    "a secret file that is not there": (
        "path: data/in",
        "path: ${file:no/such/secret}",
        4,
        "source.files.path",
        "no/such/secret",
        "no/such/secret",
    ),
    "a step that is no function": (
        "interval: day",
        "interval: day\ntransform: nonsense",
        11,
        "transform.0.function",
        "",
        "",
    ),
    "rows where a share is wanted": (
        "interval: day",
        "interval: day\ngate: {max_removed: 500}",
        11,
        "gate.max_removed",
        "500 is no share: write 0.2 or 20%",
        "schema",
    ),
    "more than all rows": (
        "interval: day",
        "interval: day\ngate: {max_changed: 120%}",
        11,
        "gate.max_changed",
        "less than or equal to 1",
        "schema",
    ),
    "a share where rows are wanted": (
        "interval: day",
        "interval: day\ngate:\n  max_removed_rows: 20%",
        12,
        "gate.max_removed_rows",
        "'20%' is no number of rows: write 500",
        "schema",
    ),
    "a number of rows below nothing": (
        "interval: day",
        "interval: day\ngate: {max_added_rows: -1}",
        11,
        "gate.max_added_rows",
        "greater than or equal to 0",
        "schema",
    ),
    "a drift that is none": (
        "interval: day",
        "interval: day\ngate:\n  max_null_drift:\n    default: 5%\n    tailnum: lots",
        14,
        "gate.max_null_drift.tailnum",
        "'lots' is no share",
        "schema",
    ),
    "a limit of another name": (
        "interval: day",
        "interval: day\ngate: {max_remove_rows: 5}",
        11,
        "gate.max_remove_rows",
        "unknown key",
        "'max_removed_rows'",
    ),
    "sources that are a list": ("source:", "sources: [1]\nx:", 2, "sources", "", "schema"),
    "nothing that moves": ("source:", "source:\n  static: true", 1, "", "not be static", ""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_line_field_and_next_step(root: Path, mistake: str):
    old, new, line, field, message, next_step = MISTAKES[mistake]
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    if mistake == "sources that are a list":
        text = GOOD.replace(GOOD[GOOD.index("source:") : GOOD.index("event_time")], "sources: [1]\n")
    path = write(root, text)

    refused = refusal(root)

    assert refused.params["file"] == str(path)
    assert (refused.params["line"], refused.params["field"]) == (line, field)
    assert refused.message.startswith(f"{path}:{line}: ")
    assert message in refused.message
    assert refused.next_step
    assert next_step in refused.next_step


def test_all_files_with_a_mistake_are_named_at_once(root: Path):
    one = write(root, GOOD.replace("interval: day", "interval: dya"))
    other = write(
        root, GOOD.replace("name: clicks", "name: views").replace("interval: day", "intervall: day"), "views"
    )
    write(root, GOOD.replace("name: clicks", "name: good"), "good")

    refused = refusal(root)

    first, second = refused.message.splitlines()
    assert first.startswith(f"{one}:")
    assert second.startswith(f"{other}:")
    assert "did you mean" in second
    assert refused.next_step == "correct these 2"


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text\n"])
def test_a_file_that_is_no_mapping_is_refused(root: Path, text: str):
    path = write(root, text)

    assert (refusal(root).params["file"], refusal(root).params["line"]) == (str(path), 1)


@pytest.mark.parametrize("raw", [b"name: \xff\xfe", b"name: \x07bell"])
def test_a_file_that_is_no_text_is_refused(root: Path, raw: bytes):
    path = root / "conf" / "pipelines" / "clicks.yml"
    path.write_bytes(raw)

    refused = refusal(root)

    assert refused.params["file"] == str(path)
    assert "UTF-8" in refused.next_step


def test_an_alias_inside_itself_is_refused(root: Path):
    write(root, GOOD + "spark: &a {x: *a}\n")

    assert "alias" in refusal(root).message


def test_the_value_of_a_reference_is_in_no_message(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TIDEMILL_TEST_SECRET", "hunter2")
    write(root, GOOD.replace("data/in", "${env:TIDEMILL_TEST_SECRET}/${env:TIDEMILL_NO_SUCH}"))

    refused = refusal(root)

    assert "hunter2" not in str(refused) + str(refused.as_json())


def test_references_are_replaced_wherever_a_text_stands(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TIDEMILL_TEST_FOLDER", "elsewhere")
    (tmp_path / "secret").write_text("s3cret\n")
    write(
        root,
        GOOD.replace("data/in", "${env:TIDEMILL_TEST_FOLDER}/in")
        + f"spark: {{spark.x: '${{file:{tmp_path / 'secret'}}}'}}\n",
    )

    pipeline = load_project(root).pipeline("clicks")

    assert pipeline.inputs["events"].source.path == str(root / "elsewhere" / "in")
    assert pipeline.spark == {"spark.x": "s3cret"}


def test_a_schema_file_becomes_part_of_the_pipeline(root: Path):
    (root / "click.json").write_text('{"type":"struct","fields":[]}')
    write(root, GOOD.replace('"at TIMESTAMP, id STRING"', "click.json"))

    assert (
        load_project(root).pipeline("clicks").inputs["events"].files.row_schema
        == '{"type":"struct","fields":[]}'
    )


def test_two_pipelines_on_one_table_are_refused(root: Path):
    write(root, name="a", text=GOOD)
    path = write(
        root, name="b", text=GOOD.replace("name: clicks", "name: taps").replace("data/out", "data/./out")
    )

    refused = refusal(root)

    assert refused.params == {"file": str(path), "line": 13, "field": "sink.delta.path"}
    assert "'clicks' already writes" in refused.message
    assert refused.next_step


@pytest.mark.parametrize("paths", [("data/out", "data/out_quarantine"), ("data/out_quarantine", "data/out")])
def test_a_pipeline_on_the_quarantine_of_another_is_refused(root: Path, paths: tuple[str, str]):
    for name, path in zip("ab", paths, strict=True):
        write(root, name=name, text=GOOD.replace("name: clicks", f"name: {name}").replace("data/out", path))

    assert "'a' already writes" in refusal(root).message


def test_two_pipelines_of_one_name_are_refused(root: Path):
    write(root, name="a")
    path = write(root, name="b", text=GOOD.replace("data/out", "data/other"))

    assert refusal(root).params == {"file": str(path), "line": 1, "field": "name"}


def test_an_overlay_changes_what_it_names_and_nothing_else(root: Path):
    write(root)
    overlay(
        root,
        """\
        all:
          event_time: {watermark: 1h}
          chunk: 7
        pipelines:
          clicks:
            chunk: 3
            sink: {delta: {path: /somewhere/else}}
        """,
    )

    plain, prod = load_project(root), load_project(root, env="prod")

    assert plain.pipeline("clicks").chunk == 31
    changed = prod.pipeline("clicks")
    assert (changed.chunk, changed.event_time.column) == (3, "at")
    assert changed.event_time.watermark == timedelta(hours=1)
    assert (changed.table.path, changed.table.mode) == ("/somewhere/else", "append")


def test_the_overlay_may_come_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch):
    write(root)
    overlay(root, "all: {chunk: 7}\n")
    monkeypatch.setenv("TIDEMILL_ENV", "prod")

    assert load_project(root).pipeline("clicks").chunk == 7


def test_an_empty_overlay_changes_nothing(root: Path):
    write(root)
    for text in ("", "all:\npipelines:\n", "pipelines: {clicks: }\n"):
        overlay(root, text)
        assert load_project(root, env="prod").pipelines == load_project(root).pipelines


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("all:\n  chunk: none at all\n", 2, "chunk", "integer"),
        ("all: {}\npipelines:\n  clicks:\n    chunck: 3\n", 4, "chunck", "'chunck'"),
        ("all:\n  event_time:\n    watermark: soon\n", 3, "event_time.watermark", "15m"),
        ("everything: {}\n", 1, "everything", "unknown key"),
        ("pipelines:\n  clics: {chunk: 1}\n", 2, "pipelines.clics", "no pipeline"),
        ("- a\n", 1, "", "mapping"),
        ("pipelines: [clicks]\n", 1, "pipelines", "mapping"),
        ("all: 7\n", 1, "all", "mapping"),
        ("all:\n  sink: {delta: {path: '${env:TIDEMILL_NO_SUCH}'}}\n", 2, "sink.delta.path", "not set"),
    ],
)
def test_a_mistake_in_an_overlay_is_named_there(root: Path, text: str, line: int, field: str, message: str):
    write(root)
    path = overlay(root, text)

    refused = refusal(root, env="prod")

    assert refused.params == {"file": str(path), "line": line, "field": field}
    assert message in refused.message
    assert refused.next_step


def test_a_mistake_beside_an_overlay_is_named_in_the_pipeline(root: Path):
    path = write(root, GOOD.replace("format: json", "format: xml"))
    overlay(root, "all:\n  chunk: 5\n")

    assert refusal(root, env="prod").params == {"file": str(path), "line": 5, "field": "source.files.format"}


def test_an_unknown_environment_is_refused_naming_the_known(root: Path):
    write(root)
    overlay(root, "all: {}\n")

    assert refusal(root, env="production").next_step == "known: prod"


def test_a_project_is_found_from_any_folder_inside_it(root: Path):
    inside = root / "jobs" / "deep"
    inside.mkdir(parents=True)

    assert find_root(inside) == root


def test_no_project_is_refused_with_the_way_to_make_one(tmp_path: Path):
    for refuse in (lambda: find_root(tmp_path), lambda: load_project(tmp_path)):
        with pytest.raises(ConfigError) as refused:
            refuse()
        assert "tidemill init" in refused.value.next_step


def test_an_unknown_pipeline_is_refused_with_the_nearest(root: Path):
    write(root)

    with pytest.raises(ConfigError) as near:
        load_project(root).pipeline("click")
    with pytest.raises(ConfigError) as far:
        load_project(root).pipeline("zzz")

    assert "'clicks'" in near.value.next_step
    assert far.value.next_step == "pipelines here: clicks"


def test_values_in_python_are_checked_as_files_are(tmp_path: Path):
    values = {
        "name": "clicks",
        "source": {"delta": {"path": "in"}},
        "event_time": {"column": "at"},
        "interval": "month",
        "sink": {"delta": {"path": "out"}},
    }

    assert parse_pipeline(values, tmp_path).table.path == str(tmp_path / "out")
    with pytest.raises(ConfigError) as refused:
        parse_pipeline({**values, "chnk": 1}, tmp_path)
    assert refused.value.params["field"] == "chnk"
    assert values["source"] == {"delta": {"path": "in"}}


def whole(**changes: object) -> dict[str, object]:
    return yaml.safe_load(GOOD) | {"interval": "all"} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lookback": "1h"}, "leave lookback out"),
        ({"lookahead": "1h"}, "leave lookahead out"),
        ({"start": "2024-05-01"}, "leave start out"),
        ({"interval": {"grain": "all", "column": "at"}}, "leave column out"),
        (
            {"sink": {"delta": {"path": "out", "retain": {"age": "90 days"}}}},
            "retain would take nothing, or everything",
        ),
    ],
)
def test_all_of_time_has_no_edges_and_says_so(tmp_path: Path, changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        parse_pipeline(whole(**changes), tmp_path)


def test_where_every_row_has_an_interval_one_without_a_time_may_be_set_aside(tmp_path: Path):
    rule = {
        "type": "expect_column_values_to_not_be_null",
        "kwargs": {"column": "at"},
        "meta": {"action": "quarantine"},
    }
    quality = {"suite": {"name": "timed", "expectations": [rule]}}

    assert parse_pipeline(whole(quality=quality), tmp_path).quality.suite is not None
    with pytest.raises(ConfigError, match="no interval"):
        parse_pipeline(whole(quality=quality, interval="day"), tmp_path)


def test_a_read_model_is_one_interval_without_partitions(tmp_path: Path):
    model = {"path": "out", "mode": "upsert", "key": ["id"], "order_by": ["at"]}

    found = parse_pipeline(whole(sink={"delta": model}), tmp_path)

    assert (found.grain.columns, found.partition_column) == ([], "")
    assert [each.label for each in found.intervals_reading(datetime.now(UTC), datetime.now(UTC))] == ["all"]
    Draft202012Validator(json_schema()).validate(whole(sink={"delta": model}))


def test_the_schema_for_editors_knows_what_files_may_say():
    schema = json_schema()

    assert {"source", "sources", "transform", "interval", "gate", "trigger"} <= schema["properties"].keys()
    assert "call" not in schema["$defs"]["Step"]["properties"]
    assert schema["additionalProperties"] is False


GATES: dict[str, tuple[object, bool]] = {
    "{max_removed: 20%, max_added: 150%, max_changed: 0.5}": (Gate(max_added=1.5, max_changed=0.5), True),
    "{max_removed: null, max_removed_rows: 500}": (Gate(max_removed=None, max_removed_rows=500), True),
    "{max_removed: 33.3%}": (Gate(max_removed=0.333), True),
    "{max_null_drift: 5%}": (Gate(max_null_drift={"default": 0.05}), True),
    "{max_null_drift: {default: 0.05, tailnum: 50%, notes: null}}": (
        Gate(max_null_drift={"default": 0.05, "tailnum": 0.5, "notes": None}),
        True,
    ),
    "{max_null_drift: null, min_rows: 0}": (Gate(max_null_drift={"default": None}, min_rows=0), True),
    "{max_removed: 20}": (None, False),
    "{max_removed: 20 percent}": (None, False),
    "{max_removed: true}": (None, False),
    "{max_removed_rows: 20%}": (None, False),
    "{max_removed_rows: 0.5}": (None, False),
    "{max_null_drift: {tailnum: -1}}": (None, False),
}


@pytest.mark.parametrize("text", GATES)
def test_the_schema_for_editors_takes_the_gates_that_are_taken(root: Path, text: str):
    expected, fine = GATES[text]
    write(root, GOOD + f"gate: {text}\n")
    gate = json_schema()["properties"]["gate"]
    editor = Draft202012Validator({**gate, "$defs": json_schema()["$defs"]})
    assert editor.is_valid(yaml.safe_load(text)) is fine
    if fine:
        assert load_project(root).pipeline("clicks").gate == expected
    else:
        assert refusal(root).params["field"].startswith("gate.")


def test_a_limit_may_come_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHARE", "0.5")
    monkeypatch.setenv("ROWS", "500")
    write(root, GOOD + "gate: {max_removed: '${env:SHARE}', max_removed_rows: '${env:ROWS}'}\n")
    assert load_project(root).pipeline("clicks").gate == Gate(max_removed=0.5, max_removed_rows=500)


def test_the_configuration_of_this_repository_loads():
    project = load_project(Path(__file__).parents[2])

    assert {"departures", "delays"} <= project.pipelines.keys()
