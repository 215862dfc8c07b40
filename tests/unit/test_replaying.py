"""What a replay means: which events, at what pace, and into what place."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from typer.testing import CliRunner

from tidemill import Engine
from tidemill.cli.app import app
from tidemill.config import Project, parse_pipeline
from tidemill.errors import ConfigError, PlanError
from tidemill.execution import pace
from tidemill.execution.pace import Feeder
from tidemill.planning.replaying import Events, check_apart, check_whole, parse_speed


def day(number: int) -> datetime:
    return datetime(2024, 5, number, tzinfo=UTC)


def pipeline(root: Path, name: str, **more: Any) -> Any:
    values = {
        "name": name,
        "source": {"delta": {"path": "log"}},
        "event_time": {"column": "at"},
        "interval": "all",
        "sink": {"delta": {"path": f"tables/{name}"}},
    }
    return parse_pipeline(values | more, root)


def project(root: Path) -> Project:
    return Project(str(root), {name: pipeline(root, name) for name in ("balances", "owners")})


@pytest.mark.parametrize(
    ("start", "until", "events"),
    [
        (None, None, Events()),
        ("2024-05-01", None, Events(start=day(1))),
        (None, "2024-05-02", Events(end=day(2))),
        ("2024-05-01", "2024-05-02T00", Events(day(1), day(2))),
        (None, "17", Events(position=17)),
        (None, 17, Events(position=17)),
        (None, day(3), Events(end=day(3))),
        ("2024-05-01", "0", Events(start=day(1), position=0)),
    ],
)
def test_until_is_a_moment_or_a_position(start: Any, until: Any, events: Events):
    assert Events.of(start, until) == events


@pytest.mark.parametrize(
    ("start", "until", "column", "message"),
    [
        (None, "soon", None, "--until 'soon' is neither a moment nor a position"),
        (None, "-3", None, "neither"),
        (None, "1.5", None, "neither"),
        ("17", None, None, "--from '17' is no moment"),
        ("2024-05-02", "2024-05-02", None, "no event"),
        (None, "2024-05-02", "seq", "no position is given"),
    ],
)
def test_what_is_neither_is_refused(start: Any, until: Any, column: str | None, message: str):
    with pytest.raises(PlanError, match=message) as refused:
        Events.of(start, until, column)
    assert refused.value.next_step


@pytest.mark.parametrize(("text", "speed"), [("10x", 10.0), ("1", 1.0), ("0.5X", 0.5), (3, 3.0)])
def test_a_speed_is_how_many_times_faster(text: Any, speed: float):
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "0x", "-1x", "fast", "", "x", "1e3", "inf", "nan", "2000000x"])
def test_what_is_no_speed_is_refused(text: str):
    with pytest.raises(PlanError, match="is no speed"):
        parse_speed(text)


@pytest.mark.parametrize(
    ("into", "what"),
    [
        ("tables/balances", "is the table of balances"),
        ("tables/balances/", "is the table of balances"),
        ("tables/owners", "is the table of owners"),
        ("tables/owners/deeper", "the table of owners, .*lie in each other"),
        ("tables/balances/_tidemill", "is the state of balances"),
        ("tables/balances_quarantine", "is the quarantine of balances"),
        ("log", "reads as events"),
        ("log/inside", "reads as events"),
        ("tables", "lie in each other"),
        (".", "lie in each other"),
    ],
)
def test_a_place_that_a_pipeline_has_is_refused(tmp_path: Path, into: str, what: str):
    with pytest.raises(PlanError, match=what) as refused:
        check_apart(project(tmp_path), pipeline(tmp_path, "balances"), str(tmp_path / into))
    anew = "tidemill replay balances, without --into"
    assert (anew in refused.value.next_step) == (into.rstrip("/") == "tables/balances")


def test_a_place_apart_is_taken(tmp_path: Path):
    for into in ("tables/balances_2", "elsewhere", "logs"):
        check_apart(project(tmp_path), pipeline(tmp_path, "balances"), str(tmp_path / into))


def test_a_table_in_place_holds_all_of_its_events(tmp_path: Path):
    one = pipeline(tmp_path, "balances")

    check_whole(one, Events(), paced=False)
    for events, paced in ((Events(end=day(1)), False), (Events(start=day(1)), False), (Events(), True)):
        with pytest.raises(ConfigError, match="is for a replay into another table") as refused:
            check_whole(one, events, paced=paced)
        assert "--into PATH" in refused.value.next_step


def write_project(root: Path) -> Path:
    (root / "conf/pipelines").mkdir(parents=True)
    (root / "conf/pipelines/balances.yml").write_text(
        "source: {delta: {path: log}}\nevent_time: {column: at}\ninterval: all\n"
        "sink: {delta: {path: tables/balances, mode: upsert, key: [account], order_by: [position]}}\n"
    )
    events = {"account": ["a", "a"], "position": [1, 2], "at": [day(1), day(2)]}
    write_deltalake(root / "log", pa.table(events))
    return root


def call(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--until", "2024-05-01"), "--until is for a replay into another table"),
        (("--from", "2024-05-01"), "--from is for a replay into another table"),
        (("--speed", "10x"), "--speed is for a replay into another table"),
        (("--speed", "0", "--into", "new"), "'0' is no speed"),
        (("--until", "soon", "--into", "new"), "neither a moment nor a position"),
        (("--into", "tables/balances"), "is the table of balances"),
        (("--into", "conf"), "is there already"),
        (("--into", "new", "--force"), "for the pipeline's own table"),
        ((), "nobody is there to agree"),
        (("--force",), "--why"),
    ],
)
def test_the_verb_refuses_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
):
    root = write_project(tmp_path)
    monkeypatch.chdir(root)

    refused = call("replay", "balances", *words)

    assert refused.exit_code == 2, refused.output
    assert message in refused.stderr
    assert "next: " in refused.stderr
    assert not (root / "new").exists()
    assert not (root / "tables").exists()


def test_a_dry_run_says_what_would_be_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = write_project(tmp_path)
    monkeypatch.chdir(root)

    into = call("replay", "balances", "--into", "new", "--until", "1", "--dry-run")
    whole = call("replay", "balances", "--dry-run")

    assert "replay events up to position 1" in into.stdout
    assert f"into a new table at {root / 'new'}, by upsert" in into.stdout
    assert "recompute 1 interval with code" in whole.stdout
    assert "stage all  (missing: never computed)" in whole.stdout
    assert not (root / "new").exists()
    assert not (root / "tables").exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--speed", "10x")])
@pytest.mark.parametrize(
    ("column", "what"),
    [
        ("nosuch", "it has no column 'nosuch'"),
        ("Account", "'Account' is string"),
        ("at", "'at' is timestamp"),
    ],
)
def test_a_position_that_is_none_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], column: str, what: str
):
    root = write_project(tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setattr(Engine, "spark", property(lambda _: pytest.fail("Spark was started")))

    refused = call("replay", "balances", "--into", "new", "--until", "1", "--position", column, *more)

    assert (refused.exit_code, f"events has no position: {what}" in refused.stderr) == (2, True)
    assert "its columns: account, position, at" in refused.stderr
    assert not (root / "new").exists()
    assert Engine(root).foresee_replay("balances", root / "new", until=1, position_column="POSITION")


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--speed", "10x"), ("--until", "3")])
@pytest.mark.parametrize("into", [(), ("--into", "new")])
def test_an_event_store_is_not_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, into: tuple[str, ...], more: tuple[str, ...]
):
    root = write_project(tmp_path)
    (root / "conf/pipelines/library.yml").write_text(
        "source: {files: {path: in, format: json, schema: 'id STRING, at TIMESTAMP'}}\nevent_time: {column: at}\n"
        "interval: day\ntransform: [{decide: 'jobs.bank:BANK'}]\nsink: {delta: {path: tables/library}}\n"
    )
    monkeypatch.chdir(root)
    monkeypatch.setattr(Engine, "spark", property(lambda _: pytest.fail("Spark was started")))

    refused = call("replay", "library", "--yes", *into, *more)

    assert (refused.exit_code, "library is an event store, which is not replayed" in refused.stderr) == (
        2,
        True,
    )
    assert "tidemill redecide library" in refused.stderr
    assert not (root / "new").exists()


def test_an_engine_says_the_same(tmp_path: Path):
    engine = Engine(write_project(tmp_path))

    with pytest.raises(PlanError, match="is no speed"):
        engine.replay("balances", tmp_path / "new", speed=-1)
    assert engine.foresee_replay("balances", tmp_path / "new").events == "all events"
    assert [str(each) for each in engine.foresee_rebuild("balances").intervals] == ["all"]


def sorted_events(folder: Path, *seconds: int) -> Path:
    """Events at these seconds of a day, in two files."""
    folder.mkdir()
    half = len(seconds) // 2
    for number, part in enumerate((seconds[:half], seconds[half:])):
        moments = pa.array([each * 1_000_000 for each in part], pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"n": list(part), "at": moments}), folder / f"part-{number:05}-x.parquet")
    (folder / "_SUCCESS").touch()
    return folder


def test_events_are_handed_on_in_order_and_no_sooner_than_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pace, "TICK_SECONDS", 0.05)
    seconds = (0, 0, 10, 20, 30, 40)
    (tmp_path / "feed").mkdir()
    feeder = Feeder(
        sorted_events(tmp_path / "sorted", *seconds), tmp_path / "feed", "at", 100.0, threading.Event()
    )

    feeder.start()
    feeder.join()
    feeder.done()

    files = sorted((tmp_path / "feed").iterdir())
    parts = [pq.read_table(file).column("n").to_pylist() for file in files]
    assert [each for part in parts for each in part] == list(seconds)
    assert len(parts) >= 3
    assert parts[0] == [0, 0]
    # 40 seconds of events at a hundred times their pace take 0.4 s at least.
    assert (feeder.finished, feeder.span) == (True, 40.0)
    assert feeder.seconds >= 0.4
    assert feeder.reached <= 100.0
    assert feeder.halt.is_set()


def test_a_feeder_that_is_stopped_hands_nothing_more_on(tmp_path: Path):
    halt = threading.Event()
    halt.set()
    (tmp_path / "feed").mkdir()
    feeder = Feeder(sorted_events(tmp_path / "sorted", 0, 1000), tmp_path / "feed", "at", 1.0, halt)

    feeder.start()
    feeder.join()

    assert not feeder.finished
    assert [pq.read_table(file).column("n").to_pylist() for file in (tmp_path / "feed").iterdir()] == [[0]]
