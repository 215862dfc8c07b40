"""The ledger reads commits as deltalake, Spark and strangers write them."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from tidemill.errors import StateError
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.facts import Commit, Foreign, Rearranged, Undo, to_json

FACT = Undo("p", "r", 0, {"2013-01-05": -3})


def write(table: Path, version: int, *actions: dict[str, Any] | str) -> None:
    folder = table / "_delta_log"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [each if isinstance(each, str) else json.dumps(each, separators=(",", ":")) for each in actions]
    (folder / f"{version:020d}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


def info(operation: str = "WRITE", metadata: str | None = None, at: int = 5) -> dict[str, Any]:
    body = {"timestamp": at, "operation": operation}
    return {"commitInfo": body | ({"userMetadata": metadata} if metadata is not None else {})}


def add(value: str | None, *, change: bool = True, column: str = "event_date") -> dict[str, Any]:
    return {"add": {"path": "f", "partitionValues": {column: value}, "dataChange": change}}


def remove(value: str | None, *, change: bool = True) -> dict[str, Any]:
    return {"remove": {"path": "f", "partitionValues": {"event_date": value}, "dataChange": change}}


def read(table: Path, after: int = -1, grain: Grain = Grain.DAY) -> list[Commit]:
    return list(log.commits_after(str(table), after, grain))


def rows(*days: int) -> pa.Table:
    return pa.table({"id": list(days), "event_date": [date(2013, 1, day) for day in days]})


def test_facts_come_in_log_order_from_where_one_asks(tmp_path: Path):
    write(tmp_path, 0, info("CREATE TABLE"), {"metaData": {"id": "x"}})
    write(tmp_path, 1, info(metadata=to_json(FACT), at=77), add("2013-01-05"))
    write(tmp_path, 2, info(metadata=to_json(FACT), at=88))

    assert read(tmp_path) == [Commit(0, 5, Rearranged()), Commit(1, 77, FACT), Commit(2, 88, FACT)]
    assert read(tmp_path, after=1) == [Commit(2, 88, FACT)]
    assert read(tmp_path, after=2) == []


def test_a_fact_is_found_wherever_its_line_stands(tmp_path: Path):
    write(tmp_path, 0, add("2013-01-05"), info(metadata=to_json(FACT)))

    assert [commit.fact for commit in read(tmp_path)] == [FACT]


def test_what_deltalake_writes_is_read_back(tmp_path: Path):
    properties = CommitProperties(custom_metadata={"userMetadata": to_json(FACT)})
    write_deltalake(str(tmp_path), rows(5), partition_by=["event_date"], commit_properties=properties)

    (commit,) = read(tmp_path)

    assert (commit.version, commit.fact) == (0, FACT)
    assert commit.at == DeltaTable(str(tmp_path)).history(1)[0]["timestamp"]


def test_a_strangers_append_names_its_intervals(tmp_path: Path):
    write_deltalake(str(tmp_path), rows(5, 6, 6), partition_by=["event_date"])

    (commit,) = read(tmp_path)

    assert commit.fact == Foreign("WRITE", ("2013-01-05", "2013-01-06"), replaced=False)


def test_a_strangers_delete_and_overwrite_replace_rows(tmp_path: Path):
    write_deltalake(str(tmp_path), rows(5, 6), partition_by=["event_date"])
    DeltaTable(str(tmp_path)).delete("id = 5")
    write_deltalake(str(tmp_path), rows(7), mode="overwrite")

    facts = [commit.fact for commit in read(tmp_path, after=0)]

    assert facts == [
        Foreign("DELETE", ("2013-01-05",), replaced=True),
        Foreign("WRITE", ("2013-01-06", "2013-01-07"), replaced=True),
    ]


def test_compaction_and_vacuum_change_no_rows(tmp_path: Path):
    for _ in range(3):
        write_deltalake(str(tmp_path), rows(5), partition_by=["event_date"], mode="append")
    table = DeltaTable(str(tmp_path))
    table.optimize.compact()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)

    assert table.version() > 2
    found = read(tmp_path, after=2)
    assert [(c.version, c.fact) for c in found] == [(v, Rearranged()) for v in range(3, table.version() + 1)]


def test_properties_and_empty_commits_change_no_rows(tmp_path: Path):
    write(tmp_path, 0, info("SET TBLPROPERTIES"), {"metaData": {"id": "x"}})
    write(tmp_path, 1, info("UPDATE"))
    write(tmp_path, 2, add("2013-01-05", change=False), remove("2013-01-05", change=False))

    assert [commit.fact for commit in read(tmp_path)] == [Rearranged()] * 3


def test_a_commit_that_says_nothing_about_itself_is_a_strangers(tmp_path: Path):
    write(tmp_path, 0, remove("2013-01-05"), add("2013-01-06"))

    assert read(tmp_path) == [Commit(0, 0, Foreign("another writer", ("2013-01-05", "2013-01-06")))]


def test_blanks_between_the_parts_of_an_action_do_not_hide_it(tmp_path: Path):
    write(
        tmp_path,
        0,
        '{ "commitInfo" : {"operation": "WRITE", "timestamp": 9} }',
        '{ "add" : ' + json.dumps(add("2013-01-05")["add"]) + "}",
    )

    assert read(tmp_path) == [Commit(0, 9, Foreign("WRITE", ("2013-01-05",), replaced=False))]


@pytest.mark.parametrize(
    "action",
    [
        add(None),  # a null partition
        add(""),  # as the protocol also writes it
        add("2013-01-05", column="col-7f"),  # physical names of column mapping
        add("not a date"),
        {"remove": {"path": "f", "dataChange": True}},  # an old writer leaves partition values out
        {"add": {"path": "f", "partitionValues": None, "dataChange": True}},
    ],
    ids=str,
)
def test_rows_that_cannot_be_placed_may_be_anywhere(tmp_path: Path, action: dict[str, Any]):
    write(tmp_path, 0, info("MERGE"), action, add("2013-01-06"))

    (commit,) = read(tmp_path)

    assert commit.fact == Foreign("MERGE", None, replaced="remove" in action)


@pytest.mark.parametrize(
    ("grain", "value", "label"),
    [
        (Grain.HOUR, "2013-01-05 13:00:00", "2013-01-05T13"),
        (Grain.HOUR, "2013-01-05T13:00:00.000000Z", "2013-01-05T13"),
        (Grain.MONTH, "2013-01-01", "2013-01"),
    ],
)
def test_partition_values_of_every_grain_are_read(tmp_path: Path, grain: Grain, value: str, label: str):
    write(tmp_path, 0, info(), add(value, column=grain.column))

    (commit,) = read(tmp_path, grain=grain)

    assert commit.fact == Foreign("WRITE", (label,), replaced=False)


def test_a_log_cleaned_past_what_is_wanted_is_refused(tmp_path: Path):
    write(tmp_path, 7, info(metadata=to_json(FACT)))

    with pytest.raises(StateError) as refused:
        read(tmp_path, after=4)

    assert (refused.value.params["first"], refused.value.params["version"]) == (7, 5)
    assert [commit.version for commit in read(tmp_path, after=6)] == [7]


def test_a_gap_inside_the_log_is_refused(tmp_path: Path):
    for version in (0, 1, 3):
        write(tmp_path, version, info(metadata=to_json(FACT)))

    with pytest.raises(StateError) as refused:
        read(tmp_path)

    assert refused.value.params["version"] == 2


def test_checkpoints_and_other_files_are_no_commits(tmp_path: Path):
    write(tmp_path, 0, info(metadata=to_json(FACT)))
    folder = tmp_path / "_delta_log"
    for name in (
        "00000000000000000009.checkpoint.parquet",
        "_last_checkpoint",
        "00000000000000000009.tmp.json",
    ):
        (folder / name).write_text("{}")

    assert [commit.version for commit in read(tmp_path)] == [0]
    assert (log.first_version(str(tmp_path)), log.last_version(str(tmp_path))) == (0, 0)


def test_a_table_that_is_not_there_has_no_commits(tmp_path: Path):
    assert not log.exists(str(tmp_path / "none"))
    assert read(tmp_path / "none") == []
    (tmp_path / "empty" / "_delta_log").mkdir(parents=True)
    assert not log.exists(str(tmp_path / "empty"))


def test_removed_files_are_known_for_a_while(tmp_path: Path):
    write(tmp_path, 0, info(), {"remove": {"path": "old", "dataChange": True}})
    write(tmp_path, 1, info(), {"remove": {"path": "new", "dataChange": True}})
    import os

    os.utime(tmp_path / "_delta_log" / f"{0:020d}.json", (1000, 1000))

    assert log.removed_since(str(tmp_path), 999_000) == {"old", "new"}
    assert log.removed_since(str(tmp_path), 1_001_000) == {"new"}


def test_what_a_commit_wrote_is_known_by_its_application(tmp_path: Path):
    def wrote(rows: int, app: str, version: int) -> list[dict[str, Any]]:
        metrics = {"operationMetrics": {"numFiles": "1", "numOutputRows": str(rows)}}
        return [{"commitInfo": metrics}, {"txn": {"appId": app, "version": version}}, add("2013-01-05")]

    table = str(tmp_path)
    assert log.rows_written(table, "mine", 1) is None
    write(tmp_path, 0, *wrote(3, "mine", 0))
    write(tmp_path, 1, *wrote(4, "mine", 1))
    write(tmp_path, 2, *wrote(5, "another's", 1))
    write(tmp_path, 3, info(), {"txn": {"appId": "mine", "version": 2}})

    assert [log.rows_written(table, "mine", version) for version in range(4)] == [3, 4, None, None]
