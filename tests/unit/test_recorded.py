"""Pipelines that decide: how they are declared, what their ledger says, and what is not done to them."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from typer.testing import CliRunner

from jobs.bank import BANK
from tidemill import Engine, aggregates
from tidemill.cli.app import app
from tidemill.cli.shell import Hands
from tidemill.config import Project, parse_pipeline
from tidemill.errors import ConfigError, PlanError, StateError
from tidemill.eventsourcing import CommandEnvelope, EventEnvelope, Standing, handle
from tidemill.execution import resume
from tidemill.execution.sagas import check_appended
from tidemill.intervals import Grain
from tidemill.ledger import inputs
from tidemill.ledger.coverage import Coverage, Shape, fold_all
from tidemill.ledger.facts import Commit, Foreign, LiveBatch, from_json, to_json
from tidemill.ledger.judge import State, judge
from tidemill.model import DeltaSource
from tidemill.planning.recorded import check_not_recorded

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
STORE: dict[str, Any] = {
    "name": "store",
    "source": {"files": {"path": "in", "format": "json", "schema": "id STRING, at TIMESTAMP"}},
    "event_time": {"column": "at"},
    "interval": "day",
    "transform": ["jobs.x:commands", {"decide": "jobs.bank:BANK"}],
    "sink": {"delta": {"path": "out"}},
}


def test_a_step_that_decides_makes_an_event_store(tmp_path: Path):
    pipeline = parse_pipeline(STORE, tmp_path)
    assert (pipeline.recorded, pipeline.decides, pipeline.interval_column) == (True, "jobs.bank:BANK", "time")
    assert pipeline.rejections_path.endswith("out_rejections")
    plain = parse_pipeline({**STORE, "transform": "jobs.x:commands"}, tmp_path)
    assert (plain.recorded, plain.decides, plain.interval_column) == (False, None, "at")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"transform": [{"decide": "jobs.bank:BANK"}, "jobs.x:after"]},
            "a step that decides is the last one",
        ),
        ({"transform": [{"decide": "a:B"}, {"decide": "a:B"}]}, "there is one"),
        (
            {"sink": {"delta": {"path": "out", "mode": "upsert", "key": ["id"], "order_by": ["version"]}}},
            "appended to, for ever",
        ),
        ({"transform": [{"decide": "no domain"}]}, "decide"),
        ({"transform": [{"decide": "a:B", "sql": "SELECT 1"}]}, "a step is"),
    ],
)
def test_what_an_event_store_cannot_be_is_refused_by_name(change: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=said):
        parse_pipeline({**STORE, **change}, tmp_path)


def live(version: int, code: str, *, late: tuple[str, ...] = ()) -> Commit:
    fact = LiveBatch(
        "store",
        "r",
        code,
        "q",
        version,
        {},
        {},
        stateful=True,
        watermark=0,
        added={"2024-05-01": 2},
        late=late,
    )
    return Commit(version, 0, fact)


def test_neither_other_code_nor_stragglers_make_what_was_decided_stale():
    shape = Shape(Grain.DAY, timedelta(0), timedelta(0), recorded=True)
    coverage = fold_all(Coverage(), [live(1, "old"), live(2, "new", late=("2024-05-01",))], shape)
    (judged,) = judge(coverage, shape, "newest", upstream={"2024-05-01": "the commands were backfilled"})
    assert (judged.state, judged.why, judged.detail.rows) == (State.RECORDED, "", 4)
    coverage = fold_all(coverage, [Commit(3, 0, Foreign("DELETE", ("2024-05-01",)))], shape)
    (judged,) = judge(coverage, shape, "newest")
    assert (judged.state, judged.why) == (State.DIRTY, "written by DELETE")


def test_a_batch_says_where_its_rejections_are():
    fact = LiveBatch(
        "store", "r", "c", "q", 1, {}, {}, stateful=True, refused="part-1/tidemill_set_aside=true"
    )
    assert from_json(to_json(fact)) == fact


def test_what_would_compute_it_again_is_refused_with_the_next_step(tmp_path: Path):
    with pytest.raises(PlanError, match="store is an event store, which is not backfilled") as caught:
        check_not_recorded(parse_pipeline(STORE, tmp_path), "backfilled")
    assert "tidemill redecide store" in caught.value.next_step


def test_a_store_without_its_checkpoint_begins_where_its_ledger_ends(tmp_path: Path):
    pipeline = parse_pipeline(STORE, tmp_path)
    (name,) = pipeline.inputs
    coverage = Coverage(query="q1", source_end={name: {"place": 0, "offset": {"logOffset": 3}}})
    checkpoint = Path(pipeline.table.state_path) / "checkpoint"
    anew = resume.Begin({name: {"logOffset": 3}}, resume.FILES_AT_ONCE)
    assert resume.begin(pipeline, Coverage()) == resume.Begin({})
    assert resume.begin(pipeline, coverage) == anew
    # Another stream has begun, and nobody has said that it may.
    (checkpoint / "offsets").mkdir(parents=True)
    (checkpoint / "offsets/0").touch()
    assert not resume.is_anew(pipeline, coverage)
    noted = resume.Noted("code", "name", None, 2, resume.Anew("q1", "2024-05-01 12:00:00"))
    resume.note(pipeline, noted)
    assert resume.noted(pipeline) == noted
    assert (resume.is_anew(pipeline, coverage), resume.begin(pipeline, coverage)) == (True, anew)
    # It has published: its checkpoint is the store's now, and reads what it has yet to read again by and by.
    mine = replace(coverage, query="q2")
    assert (resume.is_anew(pipeline, mine), resume.begin(pipeline, mine)) == (
        False,
        replace(anew, offsets={}),
    )
    plain = parse_pipeline({**STORE, "transform": "jobs.x:commands"}, tmp_path)
    assert (resume.is_anew(plain, coverage), resume.begin(plain, coverage)) == (False, resume.Begin({}))


def test_commands_are_read_from_what_is_appended_alone(tmp_path: Path):
    asked = {**STORE, "name": "asked", "transform": "jobs.x:asked"}
    upsert = {"sink": {"delta": {"path": "asked", "mode": "upsert", "key": ["id"], "order_by": ["at"]}}}
    store = parse_pipeline({**STORE, "source": {"delta": {"path": "asked"}}}, tmp_path)
    for special, says in (
        ({"sink": {"delta": {"path": "asked"}}}, None),
        (upsert, "table of asked, which is upserted"),
    ):
        project = Project(
            str(tmp_path), {"asked": parse_pipeline({**asked, **special}, tmp_path), "store": store}
        )
        with pytest.raises(PlanError, match=says) if says else nullcontext():
            check_appended(project, project.pipelines.values())


@pytest.mark.parametrize(
    ("offset", "version"),
    [
        ({"reservoirVersion": 5, "index": -1, "isStartingVersion": False}, 5),
        ({"reservoirVersion": 5, "index": 2, "isStartingVersion": False}, 5),
        ({"reservoirVersion": 8, "index": -100, "isStartingVersion": False}, 7),
        ({"reservoirVersion": 5, "index": 1, "isStartingVersion": True}, None),
    ],
)
def test_a_table_is_read_on_from_a_version_before_which_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, offset: dict[str, Any], version: int | None
):
    monkeypatch.setattr(inputs, "delta_version", lambda _: 7)
    assert inputs.begin_again(DeltaSource(path="x"), offset) == version


def events(*kinds: tuple[str, dict[str, Any]]) -> list[EventEnvelope]:
    standing, found = Standing(), []
    for number, (kind, data) in enumerate(kinds):
        at = NOON + timedelta(minutes=number)
        asked = CommandEnvelope(f"c{number}", f"account.{kind}", "a", at, json.dumps(data))
        standing, made = handle(BANK, standing, asked)
        found += [each for each in made if isinstance(each, EventEnvelope)]
    return found


ALL = events(("Open", {"owner": "ann"}), ("Deposit", {"amount": 5}), ("Deposit", {"amount": 2}))


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[EventEnvelope]:
    kept = list(ALL)
    monkeypatch.setattr(aggregates, "_events", lambda *_: iter(kept))
    return kept


@pytest.mark.parametrize(
    ("asked", "version", "balance"),
    [
        ({}, 3, 7),
        ({"version": 2}, 2, 5),
        ({"at": NOON + timedelta(minutes=1)}, 2, 5),
        ({"at": NOON + timedelta(seconds=59)}, 1, 0),
        ({"at": datetime(2030, 1, 1, tzinfo=UTC)}, 3, 7),
    ],
)
def test_a_state_at_a_version_or_a_time(
    stored: list[EventEnvelope], tmp_path: Path, asked: dict[str, Any], version: int, balance: int
):
    found = aggregates.aggregate_at(parse_pipeline(STORE, tmp_path), BANK, "account/a", **asked)
    assert (found.version, found.newest, found.state["balance"]) == (version, 3, balance)


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("a", {}, "names no aggregate"),
        ("loan/a", {}, "names no aggregate"),
        ("account/a", {"version": 4}, "has no version 4"),
        ("account/a", {"at": NOON - timedelta(days=1)}, "has no event up to"),
        ("account/a", {"at": NOON, "version": 1}, "at once"),
    ],
)
def test_a_state_that_there_is_not(
    stored: list[EventEnvelope], tmp_path: Path, name: str, asked: dict[str, Any], said: str
):
    with pytest.raises(PlanError, match=said):
        aggregates.aggregate_at(parse_pipeline(STORE, tmp_path), BANK, name, **asked)


def test_of_what_never_came_it_is_said_where_to_look(tmp_path: Path):
    store = parse_pipeline(STORE, tmp_path)

    def next_step(name: str) -> str:
        with pytest.raises(PlanError) as caught:
            aggregates.aggregate_at(store, BANK, name)
        return caught.value.next_step

    assert next_step("account/a") == "run it: tidemill run store --available-now"
    row = asdict(ALL[0]) | {"position": 1}
    write_deltalake(store.table.path, pa.Table.from_pylist([row]))
    write_deltalake(
        store.rejections_path,
        pa.table(
            {"subject": ["it's", "b"], "type": ["t"] * 2, "kind": ["rejected"] * 2, "reason": ["r1", "r2"]}
        ),
    )
    engine = Engine(Project(str(tmp_path), {"store": store}))
    for name, reason in (("account/it's", "r1"), ("account/b", "r2")):
        _, _, command = next_step(name).partition(": ")
        program, verb, sql = shlex.split(command)
        assert (program, verb) == ("tidemill", "query")
        assert engine.query(sql).rows[0][2] == reason


def test_a_store_with_a_hole_is_no_store(stored: list[EventEnvelope], tmp_path: Path):
    del stored[1]
    with pytest.raises(StateError, match="account/a/3"):
        aggregates.aggregate_at(parse_pipeline(STORE, tmp_path), BANK, "account/a")


def test_the_verb_prints_the_state_and_the_events(stored: list[EventEnvelope], tmp_path: Path):
    class Fake:
        def aggregate(self, pipeline: str, name: str, **asked: Any) -> Any:
            assert pipeline == "store"
            return aggregates.aggregate_at(parse_pipeline(STORE, tmp_path), BANK, name, **asked)

    hands = Hands(engine=lambda *_, **__: Fake())  # type: ignore[arg-type]
    said = (
        CliRunner()
        .invoke(app, ["aggregate", "store", "account/a", "--at", "2024-05-01T12:01"], obj=hands)
        .output
    )
    assert "account/a  at version 2 of 3" in said
    assert '"balance": 5' in said
    body = (
        CliRunner()
        .invoke(app, ["aggregate", "store", "account/a", "--version", "1", "--json"], obj=hands)
        .output
    )
    assert json.loads(body)["events"][0]["specversion"] == "1.0"
