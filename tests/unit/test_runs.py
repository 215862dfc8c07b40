"""Run folders keep what a backfill intended and staged."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tidemill.errors import PlanError
from tidemill.execution.runs import Manifest, RunFolder, list_runs
from tidemill.ledger.facts import IntervalResult
from tidemill.sinks.files import DataFile


def manifest(chunk: int = 0, **changes: object) -> Manifest:
    return Manifest(
        **{
            "run": "r1",
            "chunk": chunk,
            "fingerprint": "f",
            "pin": 7,
            "source_end": {"events": {"place": 0, "offset": {"logOffset": 3}}},
            "provisional": False,
            "labels": ("2013-01-05", "2013-01-06"),
            "staged": (
                DataFile(
                    "part-1/event_date=2013-01-05/a b%.parquet", "2013-01-05", 10, 2, 99, '{"numRecords":2}'
                ),
            ),
            "replaced": (DataFile("part-0/x.parquet", "2013-01-05", 9, 1, 98),),
            "results": {"2013-01-05": IntervalResult(2, "h", 1, 0), "2013-01-06": IntervalResult(0)},
            "samples": ({"interval": "2013-01-05", "rows": 1, "row": '{"id":"ö"}'},),
            "attempt": "part-1",
            "changed": {"2013-01-05": 1},
            **changes,
        }
    )


def test_a_manifest_reads_back_as_it_was_saved(tmp_path: Path):
    folder = RunFolder(str(tmp_path), "r1")
    full, refused = manifest(), manifest(1, refused="20 of 21 rows would vanish", staged=(), samples=())

    folder.save(full)
    folder.save(refused)

    assert (folder.load(0), folder.load(1)) == (full, refused)
    assert list(folder.manifests()) == [full, refused]


def test_a_chunk_that_was_not_staged_has_no_manifest(tmp_path: Path):
    assert RunFolder(str(tmp_path), "r1").load(3) is None
    assert list(RunFolder(str(tmp_path), "r1").manifests()) == []


def test_a_chunk_staged_again_replaces_its_manifest(tmp_path: Path):
    folder = RunFolder(str(tmp_path), "r1")
    folder.save(manifest())
    folder.save(manifest(pin=9))

    assert [each.pin for each in folder.manifests()] == [9]


def test_chunks_come_in_order_however_many(tmp_path: Path):
    folder = RunFolder(str(tmp_path), "r1")
    for chunk in (10_001, 2, 10, 9999):
        folder.save(manifest(chunk))

    assert [each.chunk for each in folder.manifests()] == [2, 10, 9999, 10_001]


def test_a_plan_reads_back(tmp_path: Path):
    folder = RunFolder(str(tmp_path), "r1")
    folder.save_plan({"pipeline": "clicks", "since": date(2013, 1, 5)})

    assert folder.load_plan() == {"pipeline": "clicks", "since": "2013-01-05"}
    assert [p.name for p in folder.path.iterdir()] == ["plan.json"]


def test_an_unknown_run_is_refused_naming_the_newest(tmp_path: Path):
    for run in ("20130101T000000-a", "20130102T000000-b"):
        RunFolder(str(tmp_path), run).save_plan({})

    with pytest.raises(PlanError) as refused:
        RunFolder(str(tmp_path), "nonsense").load_plan()

    assert "20130101T000000-a, 20130102T000000-b" in refused.value.next_step


def test_runs_are_listed_oldest_first(tmp_path: Path):
    assert list_runs(str(tmp_path)) == []
    for run in ("20130102T000000-b", "20130101T000000-a"):
        RunFolder(str(tmp_path), run).save_plan({})
    (tmp_path / "runs" / "a-file").write_text("")

    assert list_runs(str(tmp_path)) == ["20130101T000000-a", "20130102T000000-b"]
