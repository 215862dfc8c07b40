from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from bench import fire
from bench.events import SCHEMA
from bench.expectations import EXPECTATIONS, NOT_IN_SPARK, suite
from bench.latency import newest, waits
from bench.log import batch_ms, commit_times
from bench.machine import Machine
from bench.result import RESULTS, Result, write
from bench.sender import due_times, event, kept, total
from tidemill.config.suites import suite_of
from tidemill.config.text import lined
from tidemill.model.expectations import Runs

MACHINE = Machine(cores=2, memory_gib=16, python="3.11.7", java="17", spark="4.2.0")


def result(ratios: list[float], *, target: float = 0.3, better="lower", same: bool | None = True) -> Result:
    return Result.of_pairs(
        "x", ratios, target=target, better=better, machine=MACHINE, same_results=same, cpu_ratios=[0.5, 0.7]
    )


def test_the_ratio_is_the_median_and_the_spread_is_the_range_of_the_pairs():
    found = result([0.4, 0.2, 0.25, 0.21])

    assert (found.ratio, found.low, found.high, found.pairs) == (0.23, 0.2, 0.4, 4)
    assert found.cpu_ratio == 0.6


@pytest.mark.parametrize(
    ("ratio", "target", "better", "same", "met"),
    [
        (0.3, 0.3, "lower", True, True),
        (0.31, 0.3, "lower", True, False),
        (0.9, 0.9, "higher", True, True),
        (0.89, 0.9, "higher", True, False),
        (0.1, 0.3, "lower", False, False),
        (0.1, 0.3, "lower", None, True),
    ],
)
def test_a_target_is_met_on_the_right_side_and_with_the_same_rows(ratio, target, better, same, met):
    assert result([ratio], target=target, better=better, same=same).met is met


def test_nothing_measured_is_no_result():
    with pytest.raises(ValueError, match="nothing was measured"):
        result([])


def test_results_are_a_json_list_of_these_fields(tmp_path: Path):
    path = write([result([0.2]), result([0.3])], "batches", tmp_path / "results")

    assert path.name == "batches.json"
    first, second = json.loads(path.read_text())
    assert first == {
        "name": "x",
        "ratio": 0.2,
        "low": 0.2,
        "high": 0.2,
        "target": 0.3,
        "better": "lower",
        "pairs": 1,
        "same_results": True,
        "cpu_ratio": 0.6,
        "machine": {"cores": 2, "memory_gib": 16, "python": "3.11.7", "java": "17", "spark": "4.2.0"},
    }
    assert second["ratio"] == 0.3


def commit(table: Path, version: int, info: dict) -> None:
    (table / "_delta_log").mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"commitInfo": info}, separators=(",", ":")), '{"add":{"path":"a"}}']
    (table / "_delta_log" / f"{version:020d}.json").write_text("\n".join(lines))


def test_batches_are_timed_alike_whoever_committed_them(tmp_path: Path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    commit(mine, 0, {"timestamp": 1, "operation": "CREATE TABLE"})
    for batch, at in enumerate([100, 300, 340, 390]):
        fact = {"kind": "live"} | ({"batch": batch} if batch else {})
        commit(mine, batch + 1, {"timestamp": at, "operation": "WRITE", "userMetadata": json.dumps(fact)})
        parameters = {"epochId": str(batch), "outputMode": "Append"}
        commit(
            theirs,
            batch,
            {"timestamp": at, "operation": "STREAMING UPDATE", "operationParameters": parameters},
        )

    assert commit_times(mine) == commit_times(theirs) == {0: 100, 1: 300, 2: 340, 3: 390}
    assert batch_ms(mine, 4) == [40, 50]
    with pytest.raises(ValueError, match="batch 4"):
        batch_ms(theirs, 5)


def seen(row: int, **more: float) -> dict[str, object]:
    counts = dict.fromkeys(("runs", "kills", "lost", "doubled", "mixed_reads", "reads", "replayed"), 0)
    return {
        "row": row, "title": f"row {row}", "test": "test_x", "seed": 1, **counts,
        "retries_max": 0, "recovery_s_max": 0.0, **more,
    }  # fmt: skip


def test_a_row_of_the_matrix_adds_up_what_its_tests_have_seen():
    mutants = [
        {"mutant": "pin", "caught": True},
        {"mutant": "lease", "caught": True},
        {"mutant": "lease", "caught": False},
    ]
    reports = [seen(2, kills=3), seen(1, kills=1, recovery_s_max=2.34), seen(1, kills=2, recovery_s_max=1.0)]
    found = fire.added_up([*reports, *mutants], seeds=[5])
    assert [(row["row"], row["kills"], row["recovery_s_max"]) for row in found["rows"]] == [
        (1, 3, 2.3),
        (2, 3, 0.0),
    ]
    assert found["mutants"] == {"total": 2, "caught": 1, "survivors": ["lease"]}


def test_of_the_seeds_the_newest_three_are_kept(tmp_path):
    for number in (5, 3, 9, 1):
        report = {"row": 1, "test": "t", "title": "kill", "kills": number, "runs": 1, "lost": 0, "doubled": 0}
        report |= {"mixed_reads": 0, "reads": 0, "replayed": 0, "retries_max": 0, "recovery_s_max": 0}
        fire.keep(
            tmp_path, {"seed": number, "commit": f"c{number}", "ended": 10 - number, "reports": [report]}
        )
    found = fire.summary_of(fire.kept(tmp_path))
    assert (found["seeds"], found["commits"]) == ([5, 3, 1], ["c5", "c3", "c1"])
    assert found["rows"][0]["kills"] == 9
    assert {path.stem for path in tmp_path.iterdir()} == {"5", "3", "1"}


def test_what_is_kept_names_no_place_of_a_machine(tmp_path):
    where = "/some" + "where/run-1/table"
    report = {
        "mutant": "pin",
        "caught": True,
        "by": f"AssertionError: lost {where}/part-0.parquet twice\nat 7",
    }
    fire.keep(tmp_path, {"seed": 1, "commit": "c", "ended": 1, "reports": [report]})
    (found,) = fire.kept(tmp_path)
    assert found["reports"] == [{**report, "by": "AssertionError: lost .../part-0.parquet twice"}]


def test_the_table_of_the_guarantees_is_that_of_the_last_seeds():
    page = fire.GUARANTEES.read_text(encoding="utf-8")
    if fire.RESULTS.exists():
        summary = json.loads(fire.RESULTS.read_text(encoding="utf-8"))
        assert fire.summary_of(fire.kept(fire.SEEDS)) == summary
        assert fire.with_table(page, summary) == page
    else:
        assert "<!-- fire: begin -->\n<!-- fire: end -->" in page


def test_what_misses_its_target_is_said():
    readme = (fire.GUARANTEES.parents[1] / "README.md").read_text(encoding="utf-8")
    missed = {
        path.name
        for path in RESULTS.glob("*.json")
        if path != fire.RESULTS
        for each in json.loads(path.read_text(encoding="utf-8"))
        if not Result(**each).met
    }
    assert set(re.findall(r"`(\w+\.json)`", readme)) == missed


def test_the_suite_that_is_measured_is_of_twenty_expectations_of_rows_of_many_kinds():
    read = suite_of(lined(Path("events.json"), json.dumps(suite())))

    assert len(read.that_run(Runs.ROW)) == len(read.expectations) == 20
    assert len({each.type for each in read.expectations}) >= 12
    assert len({each["type"] for each in EXPECTATIONS} & NOT_IN_SPARK) == 2
    assert {name for each in read.expectations for name in each.columns} <= set(
        SCHEMA.replace(",", "").split()
    )


def test_an_event_is_due_when_the_schedule_says_so():
    steps = [(2, 1.5), (4, 0.5)]

    assert list(due_times(steps)) == [0.0, 0.5, 1.0, 1.5, 1.75]
    assert total(steps) == 5
    assert json.loads(event(8, 1_709_294_400.25))["at"] == "2024-03-01T12:00:00.250+00:00"
    assert [number for number in range(10) if kept(number)] == [
        number for number in range(10) if json.loads(event(number, 0))["quantity"] > 1
    ]


def test_a_row_has_waited_from_when_it_was_due_until_the_log_had_the_entry_of_its_commit(tmp_path: Path):
    table = tmp_path / "table"
    for version, seconds in enumerate([(3, 1), (2,)]):
        due = [datetime.fromtimestamp(second, UTC) for second in seconds]
        write_deltalake(table, pa.table({"at": pa.array(due, pa.timestamp("us", "UTC"))}), mode="append")
        os.utime(table / f"_delta_log/{version:020d}.json", (5 + version,) * 2)

    found = waits(table)

    assert [*zip(found.due, found.waited, strict=True)] == [(1, 4), (2, 4), (3, 2)]
    assert found.between(2, 3).tolist() == [4]
    assert newest(table) == 2
