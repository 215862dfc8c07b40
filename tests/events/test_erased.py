"""A person whose fields lie inside events: sealed in store, states, rejections and quarantine, opened in a read model, erased."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from deltalake import DeltaTable

from jobs.bank_check import rows
from tests.events.banks import bank_project, engine_of, run
from tidemill.erasure import TOMBSTONE
from tidemill.erasure.seal import mark_of
from tidemill.ledger.judge import NOT_CLEAN
from tidemill.planning.selection import Request

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.slow]
PERSONAL = "personal: {keys: secrets/keys.db, subject: subject, seal: [data.owner]}"
OWNERS = """
name: owners
source:
  delta: {path: data/tables/bank}
  personal: {keys: secrets/keys.db, open: [data.owner]}
event_time: {column: time}
interval: all
transform: jobs.owners:owners
sink: {delta: {path: data/tables/owners, mode: upsert, key: [account], order_by: [version]}}
trigger: {available_now: true}
"""
CODE = """
from pyspark.sql import functions as F

from jobs.bank import BANK
from tidemill.deciding import upcast


def owners(events):
    opened = upcast(events, BANK).where("type = 'account.Opened'")
    owner = F.get_json_object("data", "$.owner")
    return opened.select(F.col("subject").alias("account"), owner.alias("owner"), "version", "time")
"""
ADA, BOB = "Ada Lovelace", "Bob Boole"


def project_of(folder: Path) -> Path:
    project = bank_project(folder, alone=True)
    store = project / "conf/pipelines/bank.yml"
    text = store.read_text()
    store.write_text(text.replace("max_files_per_batch: 1}", f"max_files_per_batch: 1}}\n    {PERSONAL}"))
    (project / "conf/pipelines/owners.yml").write_text(OWNERS)
    (project / "jobs/owners.py").write_text(CODE)
    (project / "data/bank/commands").mkdir(parents=True)
    return project


def command(number: str, kind: str, subject: str, **data: Any) -> dict[str, Any]:
    at = datetime(2024, 5, 1, 8, int(number), tzinfo=UTC).isoformat()
    return {"id": number, "type": f"account.{kind}", "subject": subject, "time": at, "data": data}


def put(project: Path, number: int, *commands: dict[str, Any], raw: str = "") -> None:
    path = project / f"data/bank/commands/{number}.json"
    path.write_text("\n".join([*(json.dumps(each) for each in commands), raw]))
    os.utime(path, (1_700_000_000 + number,) * 2)


def readable(project: Path, text: str) -> set[str]:
    """The folders beside the tables' own under which a file says it, its live rows or any bytes of whatever version."""
    root, found = project / "data/tables", set[str]()
    for path in root.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            if path.suffix == ".parquet":
                held += repr(duckdb.sql(f"SELECT * FROM read_parquet('{path}')").fetchall()).encode()
            if text.encode() in held:
                found.add(path.relative_to(root).parts[0])
    return found


def owners(project: Path) -> dict[str, str]:
    files = DeltaTable(str(project / "data/tables/owners")).file_uris()
    return dict(duckdb.sql(f"SELECT account, owner FROM read_parquet({files})").fetchall())


def test_of_a_person_inside_events_nothing_is_left_to_read(spark: SparkSession, tmp_path: Path):
    project = project_of(tmp_path)
    put(
        project,
        1,
        command("1", "Open", "a", owner=ADA),
        command("2", "Open", "b", owner=BOB),
        command("3", "Open", "a", owner=f"{ADA} again"),
        {**command("4", "Open", "a"), "data": f"no object of {ADA}"},
        {**command("5", "Open", "a", owner=ADA), "time": None},
        command("6", "Deposit", "a", amount=500),
        raw=f'{{"id": "7", "subject": "a", "data": {{"owner": "{ADA}',
    )
    run(project, spark, "bank", "owners")
    assert owners(project) == {"a": ADA, "b": BOB}
    assert readable(project, ADA) == readable(project, BOB) == {"owners"}
    engine = engine_of(project, spark)
    assert engine.redecide("bank").holds
    assert engine.aggregate("bank", "account/a").state["owner"].startswith(mark_of("a"))

    foreseen = engine.erase("a", dry_run=True)
    assert owners(project) == {"a": ADA, "b": BOB}
    found = engine.erase("a")

    assert foreseen.pipelines == found.pipelines
    store, model = found.pipelines
    assert (found.keys, store.pipeline, store.rows, store.intervals) == (1, "bank", 4, ())
    # One event with the owner's name; the second opening, and what was no object; the record without a time.
    assert (store.events, store.rejections, store.set_aside) == (1, 2, 1)
    assert (model.pipeline, model.rows, model.intervals, model.opens) == ("owners", 1, ("all",), True)

    # The aggregate goes on, with a checkpoint and without one: what its events say of the person is a tombstone.
    put(project, 2, command("10", "Withdraw", "a", amount=100), command("11", "Open", "a", owner=ADA))
    run(project, spark)
    shutil.rmtree(project / "data/tables/bank/_tidemill/checkpoint")
    put(project, 3, command("12", "Withdraw", "a", amount=100), command("13", "Open", "c", owner="Cid"))
    run(project, spark, "bank", "owners")
    engine = engine_of(project, spark)
    state = engine.aggregate("bank", "account/a").state
    assert (state["balance"], state["owner"][: len(mark_of("a"))]) == (500 - 2 * 100, mark_of("a"))
    assert [row["id"] for row in rows(project / "data/tables/bank_rejections")].count("11") == 1
    assert engine.redecide("bank").holds

    assert engine.backfill("owners", Request(states=NOT_CLEAN)).refused is None
    assert owners(project) == {"a": TOMBSTONE, "b": BOB, "c": "Cid"}
    assert engine.verify("owners").holds
    made = engine.replay("owners", str(project / "data/tables/then"), until="2024-05-01T08:05")
    assert made.rows == 2
    assert readable(project, ADA) == {"owners"}  # in the version from before, until maintain takes it
    assert "Ada" not in json.dumps(owners(project))
