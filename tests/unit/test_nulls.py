"""Nulls by interval, from footers and from Delta's own statistics; what they do not tell is not made up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.intervals import Grain
from tidemill.sinks.files import DataFile
from tidemill.sinks.nulls import nulls_by_label

DAY, NEXT = "2024-01-01", "2024-01-02"


@dataclass
class Place:
    """All that is asked of a table."""

    path: str
    schema: dict[str, Any]
    grain: Grain = Grain.DAY


def column(name: str, kind: Any = "integer", **metadata: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


def struct(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "struct", "fields": list(fields)}


LIST = {"type": "array", "elementType": "integer", "containsNull": True}
SCHEMA = struct(
    column("v"), column("s", struct(column("x"))), column("tags", LIST), column("event_date", "date")
)


def write(root: Path, name: str, label: str, rows: dict[str, list[Any]], **more: Any) -> DataFile:
    table = pa.table(rows)
    pq.write_table(table, root / name, **more)
    return DataFile(name, label, 1, table.num_rows, 0)


def test_nulls_of_files_add_up_by_interval_and_column(tmp_path: Path):
    files = [
        write(tmp_path, "a", DAY, {"v": [1, None, None], "s": [{"x": None}, None, {"x": 3}], "tags": [[1], None, []]}),
        # A group of rows each: their footers' counts add up too.
        write(tmp_path, "b", DAY, {"v": [None, 1, 2, None], "s": [{"x": 1}] * 4, "tags": [[]] * 4}, row_group_size=1),
        write(tmp_path, "c", NEXT, {"v": [1], "s": [{"x": 1}], "tags": [[1]]}),
    ]  # fmt: skip
    assert nulls_by_label(Place(str(tmp_path), SCHEMA), files) == {
        DAY: {"v": 4, "s.x": 2, "tags": None},
        NEXT: {"v": 0, "s.x": 0, "tags": None},
    }


def test_a_file_older_than_a_column_holds_nothing_but_its_nulls(tmp_path: Path):
    old = write(tmp_path, "a", DAY, {"v": [1, 2]})
    assert nulls_by_label(Place(str(tmp_path), SCHEMA), [old])[DAY]["s.x"] == 2


def test_files_without_statistics_tell_nothing(tmp_path: Path):
    rows = {"v": [None], "s": [{"x": 1}], "tags": [[1]]}
    told = write(tmp_path, "a", DAY, rows)
    silent = write(tmp_path, "b", DAY, rows, write_statistics=False)
    gone = DataFile("c", NEXT, 1, 1, 0)
    assert nulls_by_label(Place(str(tmp_path), SCHEMA), [told, silent, gone]) == {
        DAY: {"v": None, "s.x": None, "tags": None},
        NEXT: {"v": None, "s.x": None, "tags": None},
    }


def test_a_column_named_as_a_field_of_a_struct_is_not_taken_for_it(tmp_path: Path):
    schema = struct(column("s.x"), column("s", struct(column("x"))))
    both = write(tmp_path, "a", DAY, {"s.x": [1, None], "s": [{"x": 1}, {"x": 2}]})
    one = write(tmp_path, "b", NEXT, {"s.x": [1, None]})
    found = nulls_by_label(Place(str(tmp_path), schema), [both, one])
    assert found == {DAY: {"s.x": None}, NEXT: {"s.x": None}}


def test_a_variant_is_not_taken_for_a_column_that_came_later(tmp_path: Path):
    schema = struct(column("doc", "variant"))
    held = write(tmp_path, "a", DAY, {"doc": [{"value": b"x", "metadata": b"y"}]})
    assert nulls_by_label(Place(str(tmp_path), schema), [held]) == {DAY: {"doc": None}}


def action(**add: Any) -> str:
    return json.dumps({"add": {"path": "a", **add}, "rules": "r"})


def test_files_of_sparks_writer_are_told_by_their_action_under_the_names_it_uses(tmp_path: Path):
    physical = "delta.columnMapping.physicalName"
    schema = struct(
        column("v", **{physical: "col-1"}),
        column("s", struct(column("x", **{physical: "col-3"})), **{physical: "col-2"}),
        column("w", **{physical: "col-4"}),
    )
    stats = json.dumps({"numRecords": 5, "nullCount": {"col-1": 4, "col-2": {"col-3": 1}}})
    table = Place(str(tmp_path), schema)

    def found(text: str) -> Any:
        return nulls_by_label(table, [DataFile("a", DAY, 1, 5, 0, action=text)])[DAY]

    assert found(action(stats=stats)) == {"v": 4, "s.x": 1, "w": None}
    nothing = {"v": None, "s.x": None, "w": None}
    assert found(action(stats=stats, deletionVector={"storageType": "u"})) == nothing
    assert found(action()) == nothing
