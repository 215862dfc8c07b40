"""A table is computed anew after a person was erased: who reads it is dirty, whole or in part, and event stores never. No Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidemill.config import Project
from tidemill.execution.readers import erasure_goes_on, mark
from tidemill.execution.runs import Manifest
from tidemill.intervals import Grain
from tidemill.ledger import index
from tidemill.ledger.coverage import ERASED
from tidemill.ledger.facts import Erased, IntervalResult, Swap
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion, LogTable
from tidemill.view import shape_of

SCHEMA = {
    "type": "struct",
    "fields": [
        {"name": "id", "type": "long", "nullable": True, "metadata": {}},
        {"name": "event_date", "type": "date", "nullable": True, "metadata": {}},
    ],
}
DAYS = ("2024-03-01", "2024-03-02", "2024-03-03")
FILE = DataFile("part-x/event_date=2024-03-02/f.parquet", DAYS[1], 1, 1, 0, None)


def pipeline(root: Path, name: str, *reads: str, static: tuple[str, ...] = (), **more: Any) -> Pipeline:
    sources = {each: {"delta": {"path": str(root / each)}} for each in reads}
    for each in static:
        sources[each] = {"delta": {"path": str(root / each)}, "static": True}
    made = Pipeline.model_validate(
        {
            "name": name,
            "sources": sources,
            "event_time": {"column": "at"},
            "interval": "day",
            "transform": "code:made",
            "sink": {"delta": {"path": str(root / name)}},
            **more,
        }
    )
    LogTable.create(made.table.path, Grain.DAY, SCHEMA)
    computed(made, 0)
    return made


def computed(made: Pipeline, number: int) -> None:
    """All of its days are computed, by a run that begins now."""
    table = LogTable.open(made.table.path, Grain.DAY)
    assert table is not None
    results = {day: IntervalResult(rows=0) for day in DAYS}
    fact = Swap(made.name, f"r{number}", 0, "f", table.version, {}, results, changed=False)
    publish(table, Change((), (), fact, AppVersion(f"swap/{number}", 1)))


def marked(made: Pipeline) -> set[str]:
    known = index.read(made.table.path, made.table.state_path, shape_of(made)).intervals
    return {day for day, each in known.items() if any(mark.why == ERASED for mark in each.marks)}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = [
        pipeline(tmp_path, "letters", "visits"),
        pipeline(tmp_path, "whole", "visits", static=("letters",)),
        pipeline(tmp_path, "part", "letters"),
        pipeline(tmp_path, "near", "letters", lookback="1h"),
        pipeline(tmp_path, "other", "visits"),
        pipeline(tmp_path, "store", "letters", transform=[{"decide": "code:DOMAIN"}]),
    ]
    return Project(str(tmp_path), {each.name: each for each in made})


def manifest(*, changed: bool = True) -> Manifest:
    return Manifest(
        run="r9",
        chunk=0,
        fingerprint="f",
        attempt="part-x",
        pin=1,
        source_end={},
        provisional=False,
        labels=(DAYS[1],),
        staged=(FILE,) if changed else (),
        replaced=(),
        results={},
    )


def swap(project: Project, given: Manifest, *meanwhile: str) -> None:
    with erasure_goes_on(project, project.pipeline("letters"), given, pytest.fail):
        for name in meanwhile:
            computed(project.pipeline(name), 5)


def all_marked(project: Project) -> dict[str, set[str]]:
    return {name: found for name, each in project.pipelines.items() if (found := marked(each))}


def erase(project: Project) -> None:
    mark(project.pipeline("letters"), (DAYS[1],), "e1", pytest.fail)
    assert all_marked(project) == {"letters": {DAYS[1]}}


def test_readers_of_what_was_erased_are_marked_where_they_may_hold_it(project: Project):
    erase(project)

    swap(project, manifest())

    assert all_marked(project) == {
        "letters": {DAYS[1]},  # its own swap takes the mark away; here is none
        "whole": set(DAYS),
        "part": {DAYS[1]},
        "near": {DAYS[1], DAYS[2]},
    }


def test_who_publishes_beside_the_swap_is_marked_after_it_again(project: Project):
    erase(project)

    swap(project, manifest(), "whole", "part")

    assert marked(project.pipeline("whole")) == set(DAYS)
    assert marked(project.pipeline("part")) == {DAYS[1]}


def test_a_swap_that_takes_nothing_of_anybody_marks_nobody(project: Project):
    swap(project, manifest())
    assert all_marked(project) == {}
    erase(project)
    swap(project, manifest(changed=False))
    assert all_marked(project) == {"letters": {DAYS[1]}}


def test_a_mark_says_neither_whose_it_is_nor_twice_the_same(project: Project):
    erase(project)
    swap(project, manifest())
    computed(project.pipeline("whole"), 6)
    assert marked(project.pipeline("whole")) == set()

    # The swap was not published: the process died. What is computed again is marked again.
    swap(project, manifest())

    assert marked(project.pipeline("whole")) == set(DAYS)
    assert set(Erased.__slots__) == {"pipeline", "run", "intervals"}
