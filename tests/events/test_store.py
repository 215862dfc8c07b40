"""An event store on a stream: versions, positions, ids and rejections, crashes between any two steps, lost checkpoints."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from jobs.bank import BANK
from jobs.bank_check import check_store, given, rows
from jobs.bank_commands import write_commands
from tests.events.banks import Crash, bank_project, checked, command, crash_at, engine_of, put, run
from tests.scenarios.processes import table_version
from tidemill import Engine
from tidemill.deciding import decide
from tidemill.errors import PlanError, StateError
from tidemill.intervals import Grain
from tidemill.ledger.judge import State
from tidemill.ledger.lease import Lease
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import LogTable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_crashes_anywhere_a_lost_checkpoint_and_new_code_leave_one_outcome_a_command(
    spark: SparkSession, tmp_path: Path
):
    project = bank_project(tmp_path, alone=True)
    arriving, landed = project / "arriving", project / "data/bank/commands"
    write_commands(arriving, accounts=5, files=4, each=40)
    landed.mkdir(parents=True)
    files = sorted(arriving.glob("*.json"))
    points = [Point.FILES_STAGED, Point.COMMITTED, Point.REFUSALS_COPIED]
    with files[0].open("a") as broken:
        broken.write('{"id": "broken", "time": null}\n')
    os.utime(files[0], (1_700_000_000,) * 2)
    for number, point in enumerate(points):
        shutil.copy2(files[number], landed)
        with crash_at(point), pytest.raises(Exception, match=r"Crash|" + point.value):
            run(project, spark)
        if point is Point.COMMITTED:
            # What was decided by code of before goes on under code of now: states are folded anew from events.
            source = project / "jobs/bank.py"
            source.write_text(
                source.read_text().replace("are wanted, and there are", "are too much: there are")
            )
        if point is Point.REFUSALS_COPIED:
            shutil.rmtree(project / "data/tables/bank/_tidemill/checkpoint")
    shutil.copy2(files[-1], landed)
    # A start without a checkpoint dies, too, before it has a seed and before it has published anything.
    for point in (Point.SEED_PLANTED, Point.OFFSETS_WRITTEN):
        with crash_at(point), pytest.raises(Exception, match=r"Crash|" + point.value):
            run(project, spark)
    run(project, spark)
    found = checked(project)
    assert found.wrong == []
    assert found.rejections > 10
    (aside,) = rows(project / "data/tables/bank_quarantine")
    assert '"broken"' in aside["record"]
    # Upkeep rearranges what is there, and the stream goes on from it; so does one that has lost its states.
    assert engine_of(project, spark).maintain("bank").vacuumed == 0
    shutil.rmtree(project / "data/tables/bank/_tidemill/checkpoint")
    put(
        project,
        "9",
        command("late", "account.Deposit", "a1", 9, amount=5),
        command("none", "account.Close", "a1", 9),
    )
    run(project, spark)
    found = checked(project)
    assert found.wrong == []
    assert len(rows(project / "data/tables/bank_quarantine")) == 1
    assert {row["kind"] for row in rows(project / "data/tables/bank_rejections")} == {"rejected", "invalid"}
    states = {row.interval: row.state for row in engine_of(project, spark).coverage("bank").rows}
    assert set(states.values()) == {State.RECORDED}


def test_who_commits_late_has_decided_and_what_it_refused_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = bank_project(tmp_path, alone=True)
    codes = {path: path.read_text() for path in (project / "jobs/bank.py", project / "jobs/bank_fees.py")}
    put(
        project,
        "1",
        command("1", "account.Open", "a", 1, owner="ann"),
        command("2", "account.Deposit", "a", 2, amount=1_000_000),
        command("3", "account.Withdraw", "a", 3, amount=500_000),
        command("4", "account.Withdraw", "a", 4, amount=497_900),
        command("5", "account.Withdraw", "a", 5, amount=900_000),
    )
    late: list[Change] = []

    def sleeps(_table: Any, change: Change, *_: Any) -> None:
        late.append(change)
        message = "asleep before its commit"
        raise Crash(message)

    monkeypatch.setattr("tidemill.execution.batch.publish", sleeps)
    with pytest.raises(Exception, match="asleep"):
        run(project, spark)
    monkeypatch.undo()
    # Who takes over runs other code, which refuses less, and says it in other words.
    for path, text in codes.items():
        other = text.replace("are wanted, and there are", "are too much: there are")
        path.write_text(other.replace("PER_MILLE = 5", "PER_MILLE = 0"))

    def wakes(point: Point) -> None:
        if point is Point.COMMIT_CHECKED and late:
            publish(LogTable(str(project / "data/tables/bank"), Grain.DAY), late.pop())

    with listening(wakes):
        run(project, spark)

    assert late == []
    refused = {row["id"]: row["reason"] for row in rows(project / "data/tables/bank_rejections")}
    assert sorted(refused) == ["4", "5"]
    assert all("are wanted, and there are" in reason for reason in refused.values())
    for path, text in codes.items():
        path.write_text(text)
    put(project, "2", command("6", "account.Withdraw", "a", 6, amount=490_000))
    run(project, spark)
    assert checked(project).wrong == []


def test_bad_commands_are_named_and_stop_nobody(spark: SparkSession, tmp_path: Path):
    project = bank_project(tmp_path, alone=True)
    put(
        project,
        "1",
        command("1", "account.Open", "a", 1, owner="ann"),
        command("2", "account.Close", "a", 2),
        command("3", "account.Deposit", None, 3, amount=5),
        {**command("4", "account.Deposit", "a", 4, amount=5), "schemaversion": 3},
        {**command("5", "account.Deposit", "a", 5, amount=5), "expectedversion": 4},
        {**command("6", "account.Deposit", "a", 6, amount=5), "expectedversion": 1},
        command("6", "account.Deposit", "a", 6, amount=5),
        command("7", "account.Deposit", "a", 7, amount=0),
        {**command("8", "account.Deposit", "a", 8, amount=7), "data": "no object"},
        command("9", "account.Deposit", "a", 9, amount=7),
        {**command("x", "account.Deposit", "a", 9, amount=9), "id": None},
    )
    put(
        project,
        "2",
        {**command("x", "account.Deposit", "a", 9, amount=9), "id": None},
        command("2", "account.Open", "a", 9),
    )
    run(project, spark)
    refused = {
        row["id"]: (row["kind"], row["reason"]) for row in rows(project / "data/tables/bank_rejections")
    }
    assert len(rows(project / "data/tables/bank_rejections")) == 7
    assert {each: kind for each, (kind, _) in refused.items()} == {
        "2": "invalid", "3": "invalid", "4": "invalid", "5": "conflict", "7": "invalid", "8": "invalid", None: "invalid",
    }  # fmt: skip
    assert "no command 'account.Close'" in refused["2"][1]
    assert "command 5 (account.Deposit of a) expects version 4, and it is at 1" in refused["5"][1]
    now = engine_of(project, spark).aggregate("bank", "account/a")
    assert (now.version, now.state["balance"]) == (3, 12)
    then = engine_of(project, spark).aggregate("bank", "account/a", at=datetime(2024, 5, 1, 8, 6, tzinfo=UTC))
    assert (then.version, then.newest, then.state["balance"]) == (2, 3, 5)
    assert engine_of(project, spark).aggregate("bank", "account/a", version=1).state["owner"] == "ann"
    with pytest.raises(PlanError, match="no version 9"):
        engine_of(project, spark).aggregate("bank", "account/a", version=9)


def test_an_aggregate_that_today_cannot_read_is_refused_and_the_others_go_on(
    spark: SparkSession, tmp_path: Path
):
    project = bank_project(tmp_path, alone=True)
    put(
        project,
        "1",
        command("1", "account.Open", "a", 1, owner="ann"),
        command("2", "account.Open", "b", 1, owner="bob"),
    )
    put(
        project,
        "2",
        command("3", "account.Withdraw", "a", 2, amount=1),
        command("4", "account.Deposit", "a", 3, amount=9),
    )
    put(project, "3", command("5", "account.Withdraw", "a", 4, amount=2))
    run(project, spark)
    source = project / "jobs/bank.py"
    newer = source.read_text()
    # The code of before there were fees: it meets events of a schema that it does not know.
    older = newer.replace("class Withdrawn(Event, version=2):", "class Withdrawn(Event):")
    source.write_text(older.replace("    upcasters = {1: _without_fee}", "    upcasters = {}"))
    put(
        project,
        "4",
        command("6", "account.Deposit", "a", 5, amount=1),
        command("7", "account.Deposit", "b", 5, amount=1),
    )
    run(project, spark)
    (refused,) = [row for row in rows(project / "data/tables/bank_rejections") if row["id"] == "6"]
    assert refused["kind"] == "failed"
    assert "event account/a/3 (account.Withdrawn, schema version 2)" in refused["reason"]
    assert "schema version 2 is newer than 1" in refused["reason"]
    assert engine_of(project, spark).aggregate("bank", "account/b").state["balance"] == 1
    with pytest.raises(StateError, match="account/a/3"):
        engine_of(project, spark).aggregate("bank", "account/a")
    source.write_text(newer)
    put(project, "5", command("8", "account.Deposit", "a", 6, amount=1))
    run(project, spark)
    now = engine_of(project, spark).aggregate("bank", "account/a")
    assert (now.version, now.state["balance"]) == (4, 8)


def refuses_to_compute_anew(engine: Engine) -> None:
    for verb in (
        lambda: engine.backfill("bank", Request(states=frozenset({State.STALE}))),
        lambda: engine.plan("bank"),
        lambda: engine.verify("bank"),
        lambda: engine.foresee_bootstrap("bank"),
    ):
        with pytest.raises(PlanError, match="bank is an event store") as caught:
            verb()
        assert caught.value.next_step


def test_today_decides_otherwise_and_what_was_decided_stays(spark: SparkSession, tmp_path: Path):
    project = bank_project(tmp_path, alone=True)
    put(
        project,
        "1",
        command("1", "account.Open", "a", 1, owner="ann"),
        command("2", "account.Deposit", "a", 2, amount=300_000),
        command("3", "account.Withdraw", "a", 3, amount=200_000),
        command("4", "account.Withdraw", "a", 4, amount=99_800),
        command("5", "account.Deposit", "b", 4, amount=99_800),
    )
    # Others with ids that were there: which was decided is a matter of arrival.
    put(
        project,
        "2",
        command("2", "account.Deposit", "a", 1, amount=1),
        command("4", "account.Deposit", "a", 1, amount=1),
        command("7", "account.Close", "a", 5),
    )
    with crash_at(Point.REFUSALS_COPIED), pytest.raises(Exception, match=r"Crash|refusals-copied"):
        run(project, spark)
    engine = engine_of(project, spark)
    # It writes nothing: what a crash has kept from its table has no outcome yet.
    assert engine.redecide("bank").commands == 3
    refused = project / "data/tables/bank_rejections"
    # Upkeep brings it, where no stream is there to do so.
    with Lease(engine.project.pipeline("bank").table.state_path, "live", what="a stream"):
        engine.maintain("bank")
        assert rows(refused) == []
    engine.maintain("bank")
    assert sorted(row["id"] for row in rows(refused)) == ["4", "5"]
    run(project, spark)
    same = engine.redecide("bank")
    assert (same.holds, same.commands, same.gone, same.differences) == (True, 6, 0, ())
    before = rows(project / "data/tables/bank")
    rule = project / "jobs/bank_fees.py"
    rule.write_text(rule.read_text().replace("PER_MILLE = 5", "PER_MILLE = 1"))
    engine = engine_of(project, spark)
    found = engine.redecide("bank")
    assert not found.holds
    assert found.changes == {"same": 4, "other events": 1, "now accepted": 1}
    other, accepted = found.differences
    assert (other.command, other.then[0]["data"]["fee"], other.now[0]["data"]["fee"]) == ("3", 500, 100)
    assert (accepted.command, accepted.then[0]["refused"], accepted.now[0]["data"]["balance"]) == (
        "4",
        "rejected",
        100,
    )
    assert rows(project / "data/tables/bank") == before
    refuses_to_compute_anew(engine)
    assert engine.coverage("bank").in_state(State.STALE, State.DIRTY) == ()
    # And the stream goes on by today's rule.
    put(project, "3", command("6", "account.Withdraw", "a", 5, amount=99_000))
    run(project, spark)
    assert (
        engine_of(project, spark).aggregate("bank", "account/a").state["balance"]
        == 300_000 - 200_500 - 99_000
    )


def test_a_store_that_is_not_what_it_was_is_not_gone_on_with(spark: SparkSession, tmp_path: Path):
    project = bank_project(tmp_path, alone=True)
    tables = {each: project / "data/tables" / each for each in ("bank", "bank_rejections")}
    for number in ("1", "2"):
        put(
            project,
            number,
            command(f"o{number}", "account.Open", f"a{number}", 1, owner="ann"),
            command(f"c{number}", "account.Close", "a", 2),
        )
        run(project, spark)
    for name, path in tables.items():
        newest = table_version(path)
        DeltaTable(str(path)).restore(newest - 1)
        put(project, "3", command("o3", "account.Open", "a3", 3, owner="ann"))
        with pytest.raises(StateError, match=f"{name} holds 1 rows, and its batches have written 2"):
            run(project, spark)
        DeltaTable(str(path)).restore(newest)
    # Gone as a whole, nothing would say what was refused: no start makes it anew.
    tables["bank_rejections"].rename(tmp_path / "elsewhere")
    for asked in (
        lambda: run(project, spark),
        lambda: engine_of(project, spark).redecide("bank"),
        lambda: engine_of(project, spark).maintain("bank"),
    ):
        with pytest.raises(StateError, match="bank_rejections is not there: what was refused is not known"):
            asked()
        assert not tables["bank_rejections"].exists()
    (tmp_path / "elsewhere").rename(tables["bank_rejections"])
    store = DeltaTable(str(tables["bank"]))
    with listening(_restoring(store)), pytest.raises(StateError, match="has lost rows, by RESTORE"):
        run(project, spark)
    store.restore(table_version(tables["bank"]) - 1)
    run(project, spark)
    assert checked(project).wrong == []
    # And what log commits cannot honour is refused before anything is read, by name.
    DeltaTable(str(tables["bank_rejections"])).alter.add_constraint({"some": "position >= 0"})
    with pytest.raises(
        StateError, match=r"bank decides, which takes log commits, and .*bank_rejections needs"
    ):
        run(project, spark)


def _restoring(table: DeltaTable) -> Any:
    """Restores the table as it was before, when a stream has come to its first batch."""
    done: list[Point] = []

    def listen(point: Point) -> None:
        if point is Point.OFFSETS_WRITTEN and not done:
            done.append(point)
            table.restore(1)

    return listen


def test_the_oracle_sees_a_store_that_is_wrong(spark: SparkSession, tmp_path: Path):
    project = bank_project(tmp_path, alone=True)
    put(
        project,
        "1",
        command("1", "account.Open", "a", 1, owner="ann"),
        command("2", "account.Deposit", "a", 2, amount=5),
    )
    run(project, spark)
    commands = given(project / "data/bank/commands")
    assert check_store(project / "data/tables", commands, lambda _: 0).wrong == []
    assert check_store(project / "data/tables", commands[:1], lambda _: 0).wrong
    assert check_store(
        project / "data/tables", [*commands, command("3", "account.Deposit", "a", 3, amount=1)], int
    ).wrong
    changed = [commands[0], {**commands[1], "data": {"amount": 6}}]
    assert check_store(project / "data/tables", changed, lambda _: 0).wrong


def test_numbers_that_are_none_are_refused_and_stop_nobody(spark: SparkSession):
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    rows = [
        ("1", "account.Open", "a", at, '{"owner": "ann"}', None, None),
        ("2", "account.Open", "b", at, '{"owner": "bob"}', "v2", None),
        ("3", "account.Open", "c", at, '{"owner": "cid"}', "3000000000", None),
        ("4", "account.Open", "d", at, '{"owner": "dan"}', "1", "soon"),
    ]
    columns = "id STRING, type STRING, subject STRING, time TIMESTAMP, data STRING"
    asked = spark.createDataFrame(rows, f"{columns}, schemaversion STRING, expectedversion STRING")

    found = {row.subject: row.kind for row in decide(asked, BANK).collect()}

    assert found == {"a": None, "b": "invalid", "c": "invalid", "d": "conflict"}
