"""A person is erased: sealed in a first table and its quarantine, opened in a second; nothing of them is left to read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from tidemill import Engine
from tidemill.config import Project, load_project, parse_pipeline
from tidemill.erasure.frame import personal_rows, subject_of
from tidemill.erasure.seal import mark_of
from tidemill.errors import ConfigError, LeaseHeld, PlanError, StateError
from tidemill.execution.outbox import Outbox
from tidemill.execution.replay import EVERYTHING
from tidemill.ledger.facts import Commit, Rearranged
from tidemill.ledger.judge import NOT_CLEAN, State
from tidemill.ledger.lease import Lease
from tidemill.model import Input, Personal
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening

pytestmark = [pytest.mark.spark, pytest.mark.slow]
BEGIN = datetime(2024, 3, 1, 8, tzinfo=UTC)
VISITS = """
name: visits
source:
  files: {path: data/in, format: json, schema: "id BIGINT, user STRING, email STRING, page STRING, at TIMESTAMP"}
  personal: {keys: secrets/keys.db, subject: user, seal: [email]}
event_time: {column: at}
interval: day
quality: {inputs: {events: emails}}
sink: {delta: {path: data/visits}}
trigger: {available_now: true}
"""
LETTERS = """
name: letters
source:
  delta: {path: data/visits}
  personal: {keys: secrets/keys.db, open: [email]}
event_time: {column: at}
interval: day
transform: post:letters
quality:
  suite:
    name: letters
    expectations:
      - {type: expect_column_distinct_values_to_be_in_set, kwargs: {column: to, value_set: [NOBODY]}, meta: {action: warn}}
sink: {delta: {path: data/letters}}
trigger: {available_now: true}
"""
DESK = """
name: desk
sources:
  visits: {delta: {path: data/visits}}
  letters: {delta: {path: data/letters}, static: true}
event_time: {column: at}
interval: day
transform: post:desk
sink: {delta: {path: data/desk}}
trigger: {available_now: true}
"""
EMAILS = """
name: emails
expectations:
  - type: expect_column_values_to_match_regex
    kwargs: {column: email, regex: "@"}
    meta: {action: quarantine}
"""
CODE = """
from pyspark.sql import functions as F


def letters(visits):
    return visits.select("id", "user", F.upper("email").alias("to"), "at")


def desk(visits, letters):
    return visits.select("id", "at").join(letters.select("id", "to"), "id", "left")
"""


class World:
    """The project, what has arrived, and what each table has to hold by the events alone."""

    def __init__(self, folder: Path, spark: SparkSession, visits: str = VISITS) -> None:
        self.folder, self.events, self.erased = folder, list[dict[str, Any]](), set[str]()
        (folder / "conf/pipelines").mkdir(parents=True)
        (folder / "conf/suites").mkdir()
        (folder / "data/in").mkdir(parents=True)
        (folder / "conf/pipelines/visits.yml").write_text(visits)
        (folder / "conf/pipelines/letters.yml").write_text(LETTERS)
        (folder / "conf/pipelines/desk.yml").write_text(DESK)
        (folder / "conf/suites/emails.yml").write_text(EMAILS)
        (folder / "post.py").write_text(CODE)
        self.engine = Engine(load_project(folder), spark=spark)

    def arrive(self, *events: dict[str, Any], raw: str = "") -> None:
        self.events += events
        lines = [json.dumps({**each, "at": each["at"].isoformat()}) for each in events]
        text = "\n".join([*lines, *([raw] if raw else [])])
        (self.folder / f"data/in/{len(self.events):05d}.json").write_text(text)

    def run(self, *names: str) -> None:
        for name in names or ("visits", "letters", "desk"):
            for outcome in self.engine.run(name):
                if outcome.error is not None:
                    raise outcome.error

    def repair(self, *names: str) -> tuple[str, ...]:
        """Compute anew what is not clean; the runs."""
        done = [self.engine.backfill(name, Request(states=NOT_CLEAN)) for name in names]
        assert not any(each.refused for each in done)
        self.done = done
        return tuple(each.run for each in done)

    def clean(self, name: str) -> tuple[str, ...]:
        return tuple(self.engine.coverage(name).in_state(State.CLEAN))

    def check(self) -> None:
        """Letters are those of the events; visits have one sealed text an event, and open those of the living."""
        kept = [each for each in self.events if "@" in each["email"]]
        wanted = sorted(
            (each["id"], each["user"], None if each["user"] in self.erased else each["email"].upper())
            for each in kept
        )
        rows = duckdb.sql(
            f'SELECT id, user, "to" FROM {_files(self.folder / "data/letters")} ORDER BY id'
        ).fetchall()
        assert rows == wanted
        for name in ("visits", "letters", "desk"):
            assert self.engine.verify(name).holds
            assert not self.engine.plan(name).chunks

    def readable(self, text: str) -> list[str]:
        """The live files, of tables and quarantine, in which a text stands."""
        found = []
        for table in ("visits", "letters", "desk", "visits_quarantine"):
            for path in DeltaTable(str(self.folder / "data" / table)).file_uris():
                held = duckdb.sql(f"SELECT * FROM read_parquet('{path}')").fetchall()
                if re.search(re.escape(text), repr(held), re.IGNORECASE):
                    found.append(table)
        return found

    def noted(self) -> str:
        """What commits say about themselves, the index, and what runs have kept; without statistics of files, which the log
        has too, and which go with it.
        """
        tables = [self.folder / "data" / each for each in ("visits", "letters", "desk")]
        logs = [path for each in tables for path in (each / "_delta_log").glob("*.json")]
        lines = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
        said = [line["commitInfo"].get("userMetadata", "") for line in lines if "commitInfo" in line]
        kept = [path for each in tables for path in (each / "_tidemill").rglob("*.json")]
        return re.sub(
            r'"stats": ?"(\\.|[^"\\])*"', "", "\n".join([*said, *(path.read_text() for path in kept)])
        )


def _files(table: Path) -> str:
    return f"read_parquet({DeltaTable(str(table)).file_uris()})"


def visit(number: int, user: str, email: str | None = None) -> dict[str, Any]:
    at = BEGIN + timedelta(hours=7 * number)
    return {
        "id": number,
        "user": user,
        "email": email or f"{user}{number}@example.org",
        "page": "/",
        "at": at,
    }


def test_nothing_of_an_erased_person_can_be_read_after_the_rebuild(tmp_path: Path, spark: SparkSession):
    world = World(tmp_path, spark)
    world.arrive(*[visit(n, "ada" if n % 3 == 0 else "bob") for n in range(9)])
    world.arrive(visit(9, "ada", "ada without sign"), raw='{"id": 10, "user": "ada", "email": "ada broken')
    world.run()
    world.check()
    assert world.readable("ada3@") == ["letters", "desk"]
    assert world.readable("ada without") == world.readable("ada broken") == []

    foreseen = world.engine.erase("ada", dry_run=True)
    assert (foreseen.keys, [each.rows for each in foreseen.pipelines]) == (1, [3, 4])
    assert not any(world.engine.plan(name).chunks for name in ("visits", "letters", "desk"))

    # A backfill that is under way hinders nobody: what it publishes is dirty, too.
    staged = world.engine.backfill("letters", EVERYTHING, stage_only=True).run
    with Lease(str(tmp_path / "data/letters/_tidemill"), "backfill", what="another run"):
        found = world.engine.erase("ada")
    world.erased.add("ada")

    letters, visits = found.pipelines
    assert (found.backfill, found.maintain) == (("visits", "letters", "desk"), ("letters", "desk"))
    days = ("2024-03-01", "2024-03-02", "2024-03-03")
    assert (letters.pipeline, letters.intervals, letters.opens) == ("letters", days, True)
    assert (visits.pipeline, visits.intervals, visits.set_aside) == ("visits", days, 1)
    assert {row.state.value for row in world.engine.coverage("visits").rows} == {"dirty"}
    with pytest.raises(PlanError, match=f"run {staged} is not published: a person was erased"):
        world.engine.publish(staged)
    # Live rows of them come in sealed for nobody, before and after the rebuild.
    world.arrive(visit(10, "ada"), visit(11, "bob"))
    world.run("visits", "letters")
    world.repair("visits")
    rebuilt: list[str] = []

    def beside(point: Point) -> None:
        if point is Point.OFFSETS_WRITTEN and not rebuilt:
            rebuilt.extend(world.repair("letters"))

    with listening(beside):
        world.run("desk")

    # Its batch had read letters as they were, and was begun again; what it joined before is dirty.
    assert world.clean("desk") == ("2024-03-04",)
    assert world.readable("ada3@") == ["desk"]
    assert {day for chunk in world.done[0].chunks for day in chunk.erased} >= set(days)  # letters'
    with pytest.raises(PlanError, match=f"run {rebuilt[0]} is not undone: what it would put back"):
        world.engine.undo(rebuilt[0])
    world.repair("desk")
    world.check()
    assert world.readable("ada3@") == world.readable("ada10@") == []
    assert world.readable("bob4@") == ["letters", "desk"]

    assert "(hidden) 1" in world.noted()
    assert '"(hidden)"' in world.noted()
    assert "example" not in world.noted().lower()

    again = world.engine.erase("ada")
    assert again.keys == 0
    assert {row.state.value for row in world.engine.coverage("visits").rows} == {"dirty"}


def test_a_paced_replay_judges_what_is_sealed_before_it_is_and_begins_anew_where_one_was_killed(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tidemill.execution.pace.TICK_SECONDS", 0.2)
    world = World(tmp_path, spark)
    world.arrive(visit(0, "ada"), visit(1, "bob", "no address"), visit(2, "bob"))
    world.run()
    into = tmp_path / "again"
    # As a process leaves it that is killed at work: some rows, files to hand on, a checkpoint.
    for folder in (into, tmp_path / "again_quarantine"):
        write_deltalake(folder, pa.table({"id": [99]}))
    for each in ("feed/00000000.parquet", "sorted/part-0.parquet", "checkpoint/offsets/0"):
        (into / "_tidemill" / each).parent.mkdir(parents=True)
        (into / "_tidemill" / each).write_text("not whole")
    with Lease(str(into / "_tidemill"), "replay", what="another"), pytest.raises(LeaseHeld):
        world.engine.replay("visits", into, speed="100000x")
    assert world.engine.foresee_replay("visits", into).mode == "append"
    assert (into / "_tidemill/feed/00000000.parquet").exists()

    found = world.engine.replay("visits", into, speed="100000x")
    letters = world.engine.replay("letters", tmp_path / "letters_again", speed="100000x")

    assert (found.rows, found.left_out) == (2, 1)
    assert [row[0] for row in duckdb.sql(f"SELECT id FROM {_files(into)} ORDER BY id").fetchall()] == [0, 2]
    (first, _) = duckdb.sql(f"SELECT email FROM {_files(into)} ORDER BY id").fetchall()
    assert first[0].startswith(mark_of("ada"))
    assert not (into / "_tidemill").exists()
    assert not (tmp_path / "again_quarantine").exists()
    sent = duckdb.sql(f'SELECT "to" FROM {_files(tmp_path / "letters_again")} ORDER BY 1').fetchall()
    assert (letters.rows, sent) == (2, [("ADA0@EXAMPLE.ORG",), ("BOB2@EXAMPLE.ORG",)])


def test_fields_of_structs_and_of_json_in_them_are_sealed_and_opened_in_place(
    tmp_path: Path, spark: SparkSession
):
    who = "who STRUCT<id: BIGINT, name: STRING, more: STRUCT<note: STRING, n: INT>>"
    frame = spark.createDataFrame(
        [
            ((1, "Ada", ('{"city": "London", "n": 1.50}', 7)), '{"name": "Ada", "k": 1}', "Ada"),
            ((2, None, None), None, None),
            (None, "Ada", "Ada"),
        ],
        f"{who}, data STRING, `a.b` STRING",
    )
    fields = ["who.name", "who.more.note.city", "data.name", "a.b"]
    shared = {"keys": str(tmp_path / "keys.db")}

    def of(**personal: Any) -> Input:
        return Input.model_validate({"delta": {"path": "x"}, "personal": {**shared, **personal}})

    hidden = personal_rows(frame, of(subject="who.id", seal=fields), "events").persist()

    assert hidden.schema == frame.schema
    assert "Ada" not in repr(hidden.collect())
    assert "London" not in repr(hidden.collect())
    one, two, none = hidden.collect()
    assert (one.who.id, one.who.more.n, json.loads(one.data)["k"]) == (1, 7, 1)
    assert all(mark_of("1") in text for text in (one.who.name, one.who.more.note, one.data, one["a.b"]))
    assert (two, none.who) == (frame.collect()[1], None)
    assert none["a.b"].startswith(mark_of(""))
    opened = personal_rows(hidden, of(open=fields), "events").collect()
    assert opened[0].who.more.note == '{"city":"London","n":1.50}'
    assert (opened[0].who.name, opened[0].data, opened[0]["a.b"]) == ("Ada", '{"name":"Ada","k":1}', "Ada")
    assert (opened[2].data, opened[2]["a.b"]) == ("Ada", "Ada")

    # Who a row belongs to is who the model would say: of a key that comes twice the last, and of two zeros one.
    odd = spark.createDataFrame(
        [(float(zero), text) for zero in ("-0.0", "0.0") for text in ('{"k": 1, "k": -0}', '{"k":0}')],
        "zero DOUBLE, data STRING",
    )
    for subject, said in (("zero", "0.0"), ("data.k", "0")):
        found = odd.select(subject_of(odd, Personal(keys="k.db", subject=subject, seal=["data.name"])))
        assert {row[0] for row in found.collect()} == {said}

    by_json = personal_rows(frame, of(subject="data.k", seal=["who.name"]), "events").collect()
    assert by_json[0].who.name == hidden.collect()[0].who.name
    for wrong, said in (("who.more.n", "who.more.n is int"), ("who.nobody", "no column 'who.nobody'")):
        with pytest.raises(ConfigError, match=said):
            personal_rows(frame, of(subject="who.id", seal=[wrong]), "events")


def test_of_a_message_that_a_topic_does_not_take_opened_fields_are_in_the_table_alone(
    tmp_path: Path, spark: SparkSession
):
    values = yaml.safe_load(LETTERS)
    values["sink"]["kafka"] = {"servers": "nobody:9092", "topic": "letters"}
    opens = parse_pipeline(values, tmp_path)
    plain = opens.model_copy(update={"inputs": {"visits": Input.model_validate({"delta": {"path": "x"}})}})
    rows = spark.createDataFrame([("i1", "ada", "Ada", 99)], "id STRING, key STRING, value STRING, bytes INT")
    found = []
    for pipeline in (opens, plain):
        outbox = Outbox(spark, pipeline, table=None, sink=pipeline.sink.kafka, limit=10)  # type: ignore[arg-type]
        outbox._keep(rows, Commit(version=len(found), at=0, fact=Rearranged()))
        kept = DeltaTable(opens.unsent_path).to_pyarrow_table().to_pylist()
        found.append([(row["id"], row["key"], row["value"]) for row in kept if row["version"] == len(found)])

    assert found == [[("i1", None, None)], [("i1", "ada", "Ada")]]


def test_keys_that_are_lost_end_the_run_and_say_so(tmp_path: Path, spark: SparkSession):
    world = World(tmp_path, spark)
    world.arrive(visit(0, "ada"))
    (outcome,) = world.engine.run("visits")
    assert outcome.error is None
    (tmp_path / "secrets/keys.db").unlink()

    (outcome,) = world.engine.run("letters")

    assert "the keys have none of this subject" in str(outcome.error)
    # The file is there again by now, made anew; who has sealed with the old one goes no further with it.
    (again,) = world.engine.run("visits")
    for refused in (
        again.error,
        _raised(lambda: world.engine.rebuild("visits")),
        _raised(lambda: world.engine.erase("ada")),
        _raised(lambda: world.engine.erase("ada", dry_run=True)),
    ):
        assert f"the keys {tmp_path}/secrets/keys.db are another store" in str(refused)
    (tmp_path / "secrets/keys.db").unlink()
    (again,) = world.engine.run("visits")
    assert "keys.db are not there" in str(again.error)
    assert not (tmp_path / "secrets/keys.db").exists()


def _raised(verb: Callable[[], Any]) -> Exception:
    with pytest.raises(StateError) as caught:
        verb()
    return caught.value


def test_a_project_without_personal_fields_says_so(tmp_path: Path):
    with pytest.raises(PlanError, match="no pipeline of the project has personal fields"):
        Engine(Project(str(tmp_path), {})).erase("ada")


@pytest.mark.parametrize(
    ("personal", "said"),
    [
        ("seal: [mail]", "has no column 'mail'"),
        ("seal: [id]", "only texts can be sealed"),
    ],
)
def test_columns_that_do_not_fit_are_said_before_anything_is_read(
    tmp_path: Path, spark: SparkSession, personal: str, said: str
):
    world = World(tmp_path, spark, VISITS.replace("seal: [email]", personal))
    world.arrive(visit(0, "ada"))

    (outcome,) = world.engine.run("visits")

    assert said in str(outcome.error)
    assert not (tmp_path / "data/visits/_delta_log").exists()
