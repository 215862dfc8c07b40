"""The bank as a whole: transfers as a saga between two pipelines, killed at random, and its projections."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.bank_check import check_projections, rows
from jobs.bank_commands import write_commands
from jobs.bank_fees import fee
from tests.events.banks import bank_project, checked, command, crash_at, engine_of, put, run
from tests.profile import FULL
from tests.scenarios.processes import table_version
from tidemill.errors import PlanError
from tidemill.execution.runs import list_runs
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.protocol import Point
from tidemill.testing import Process

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

STORE, SAGA = "bank", "bank_transfers"
PROJECTIONS = ("bank_statements", "bank_balances", "bank_totals", "bank_fees")
KILLS = 12 if FULL else 4


def settle(project: Path, spark: SparkSession) -> None:
    before: list[int] = []
    while (now := [len(rows(project / "data/tables" / name)) for name in (STORE, SAGA)]) != before:
        before = now
        run(project, spark, SAGA, STORE)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_kills_of_store_and_saga_lose_no_money_and_no_step(spark: SparkSession, tmp_path: Path):
    seed = int(os.environ.get("TIDEMILL_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"TIDEMILL_SEED={seed}")  # noqa: T201  # pytest shows it when the test fails
    chance = random.Random(seed)
    project = bank_project(tmp_path)
    write_commands(project / "data/bank/commands", accounts=6, files=6, each=25)
    tables = [project / "data/tables" / name for name in (STORE, SAGA)]
    # The first start makes the store, which the saga reads.
    _killed(project, chance, tables, STORE)
    for _ in range(KILLS):
        _killed(project, chance, tables, STORE, SAGA)
    settle(project, spark)
    found = checked(project)
    assert found.wrong == []
    assert found.completed > 5
    assert found.failed > 0


def _killed(project: Path, chance: random.Random, tables: list[Path], *names: str) -> None:
    """Let both go round, in a process that is killed some moments after one of them has published something."""
    before = [table_version(table) for table in tables]
    live = Process(project, "run", *names)
    live.wait_for(lambda: [table_version(table) for table in tables] != before, "a commit")
    threading.Event().wait(chance.uniform(0, 1.5))
    if live.running:
        live.kill()


def test_crashes_of_store_and_saga_take_no_step_twice_and_projections_hold_what_the_entries_make(
    spark: SparkSession, tmp_path: Path
):
    project = bank_project(tmp_path)
    write_commands(project / "data/bank/commands", accounts=4, files=2, each=40)
    for name, point in (
        (STORE, Point.REFUSALS_COPIED),
        (STORE, None),
        (SAGA, Point.COMMITTED),
        (STORE, Point.FILES_STAGED),
    ):
        if point is None:
            run(project, spark, name)
            continue
        with crash_at(point), pytest.raises(Exception, match=f"Crash|{point}"):
            run(project, spark, name)
    settle(project, spark)
    run(project, spark, *PROJECTIONS)
    engine_of(project, spark).backfill("bank_totals", Request(include_open=True))
    found = checked(project)
    assert found.wrong == []
    assert check_projections(project / "data/tables", found.entries, fee) == []
    assert check_projections(project / "data/tables", found.entries[:-1], fee) != []
    # A store that has lost its checkpoint reads on in the saga's table where it had ended.
    shutil.rmtree(project / "data/tables/bank/_tidemill/checkpoint")
    settle(project, spark)
    assert checked(project).wrong == []
    # Sagas and projections are tables as any other: their law is the engine's.
    for name in (SAGA, "bank_statements", "bank_totals"):
        assert engine_of(project, spark).verify(name).holds
    _nothing_is_asked_otherwise(project, spark)


def _nothing_is_asked_otherwise(project: Path, spark: SparkSession) -> None:
    """Other code of the saga may be compared with what was asked, and not put in its place."""
    everything = Request(states=frozenset(State), include_open=True)
    same = engine_of(project, spark).backfill(SAGA, everything)
    assert {each.outcome for each in same.chunks} == {"equal"}
    source, asked = project / "jobs/bank.py", rows(project / "data/tables" / SAGA)
    source.write_text(source.read_text().replace('f"{transfer}/complete"', 'f"{transfer}/finish"'))
    with pytest.raises(
        PlanError, match=r"the event store bank has read them as commands .input transfers."
    ) as refused:
        engine_of(project, spark).backfill(SAGA, everything)
    assert refused.value.next_step
    assert rows(project / "data/tables" / SAGA) == asked
    state = engine_of(project, spark).project.pipeline(SAGA).table.state_path
    (staged,) = set(list_runs(state)) - {same.run}
    with pytest.raises(PlanError, match="has read them as commands"):
        engine_of(project, spark).publish(staged, force=True, why="it is right")


def test_the_tables_that_a_start_makes_are_those_that_their_pipelines_write(
    spark: SparkSession, tmp_path: Path
):
    project = bank_project(tmp_path)
    saga, flows = project / "conf/pipelines/bank_transfers.yml", project / "jobs/bank_flows.py"
    saga.write_text(saga.read_text().replace("interval: day", "interval: all"))
    flows.write_text(
        flows.read_text().replace(
            "events=events, rejections=rejections)",
            'events=events, rejections=rejections).withColumn("n", F.lit(1))',
        )
    )
    put(project, "1", command("t", "transfer.Start", "t", 1, sender="a", receiver="b", amount=5))
    run(project, spark, STORE, SAGA)
    assert [(row["id"], row["n"]) for row in rows(project / "data/tables" / SAGA)] == [("t/debit", 1)]
