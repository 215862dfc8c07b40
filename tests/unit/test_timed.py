"""By which column rows are placed in time is settled where a stream has fed a table; where none has, another makes all of it stale.

A table's grain is settled by the table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import Project, parse_pipeline
from tidemill.engine import Engine
from tidemill.errors import PlanError, StateError
from tidemill.execution.fits import check_checkpoint
from tidemill.execution.touched import told
from tidemill.intervals import parse_moment
from tidemill.ledger import coverage_json, index, inputs
from tidemill.ledger.facts import IntervalResult, LiveBatch, Swap, to_json
from tidemill.ledger.judge import NOT_CLEAN, State
from tidemill.model import Pipeline
from tidemill.planning.selection import Request
from tidemill.planning.timed import check_timed
from tidemill.view import shape_of

D1, D2 = "2013-01-01", "2013-01-02"
HOUR = 3600


def pipeline(root: Path, column: str, **more: Any) -> Pipeline:
    values = {
        "name": "clicks",
        "source": {"files": {"path": "in", "format": "json", "schema": "at TIMESTAMP, seen TIMESTAMP"}},
        "event_time": {"column": column},
        "interval": {"grain": "day", "column": "at"},
        "sink": {"delta": {"path": "out"}},
        "trigger": {"available_now": True},
    }
    (root / "in").mkdir(exist_ok=True)
    return parse_pipeline({**values, **more}, root)


def engine(root: Path, column: str, **more: Any) -> Engine:
    return Engine(Project(str(root), {"clicks": pipeline(root, column, **more)}))


def at(moment: str) -> int:
    return int(parse_moment(moment).timestamp())


def batch(root: Path, column: str, **more: Any) -> LiveBatch:
    found = told(pipeline(root, column), [at(f"{D1}T07:00") // 600], [at(f"{D2}T09:00") // 600])
    end = {"events": {"place": 0, "offset": {"logOffset": 0}}}
    known = {"added": {D1: 1}} | found | more
    return LiveBatch("clicks", "r", "code", "q", 0, {}, end, stateful=False, **known)


def commit(root: Path, fact: LiveBatch | Swap, version: int = 0) -> None:
    folder = root / "out" / "_delta_log"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{version:020d}.json").write_text(
        json.dumps({"commitInfo": {"timestamp": 1, "userMetadata": to_json(fact)}})
    )


def test_a_batch_says_what_it_touched_with_what_rules_left_out_and_by_which_column(tmp_path: Path):
    found = batch(tmp_path, "seen")
    seven, nine = at(f"{D1}T07:00"), at(f"{D2}T09:00")
    assert found.touched == ((seven, seven + HOUR // 6),)
    assert found.ruled_out == ((nine, nine + HOUR // 6),)
    assert (found.reached, found.timed, found.reach) == ((D1, D2), {"events": "seen"}, (0, 0))


def test_a_table_that_a_stream_has_fed_is_refused_another_event_time(tmp_path: Path):
    commit(tmp_path, batch(tmp_path, "at"))
    before = engine(tmp_path, "at")
    coverage = before.view("clicks").coverage
    assert coverage_json.from_json(coverage_json.as_json(coverage)).timed == {"events": "at"}
    check_timed(pipeline(tmp_path, "at"), coverage)
    other = engine(tmp_path, "seen")
    # What is known is stale; of what rows of then are by the other column, nothing is known.
    assert {each.state for each in other.view("clicks").judged} == {State.STALE}
    with pytest.raises(PlanError, match=r"by the event time at, and event_time\.column is now seen") as found:
        other.plan("clicks", Request(states=NOT_CLEAN))
    assert "say at again; or give the pipeline a new table" in found.value.next_step
    with pytest.raises(PlanError, match="by the event time at"):
        check_checkpoint(pipeline(tmp_path, "seen"), coverage, str(tmp_path / "checkpoint"))
    # An input's own counts as well; one interval that is all of time holds them all.
    own = {"files": {"path": "in", "format": "json", "schema": "at TIMESTAMP, seen TIMESTAMP"}}
    with pytest.raises(PlanError, match="by the event time at"):
        check_timed(pipeline(tmp_path, "at", source={**own, "event_time": {"column": "seen"}}), coverage)
    check_timed(pipeline(tmp_path, "seen", interval="all"), coverage)


def test_another_column_for_intervals_makes_all_stale_that_the_input_reaches(tmp_path: Path):
    commit(tmp_path, batch(tmp_path, "at", added={}))
    other = engine(tmp_path, "at", interval={"grain": "day", "column": "seen"}).view("clicks")
    # Rows may go from any of these to any other, and to none that is not known.
    assert {each.interval.label: each.state for each in other.judged} == {D1: State.STALE, D2: State.STALE}
    check_timed(other.pipeline, other.coverage)


def test_another_grain_is_refused_by_name_whatever_has_fed_the_table(tmp_path: Path):
    commit(tmp_path, batch(tmp_path, "at"))
    table = engine(tmp_path, "at").view("clicks").pipeline.table
    for grain in ("hour", "month", "all"):
        with pytest.raises(StateError, match=f"grain day, and its pipeline says {grain}") as found:
            engine(tmp_path, "at", interval=grain).view("clicks")
        assert "say interval: day again; or give the pipeline a new table" in found.value.next_step
    # What upkeep has left says so, too.
    index.before_cleaning(table.path, table.state_path, shape_of(pipeline(tmp_path, "at")))
    (tmp_path / "out/_delta_log" / f"{0:020d}.json").unlink()
    (tmp_path / "out/_tidemill/index.json").unlink()
    commit(tmp_path, batch(tmp_path, "at"), 1)
    with pytest.raises(StateError, match="grain day, and its pipeline says hour"):
        engine(tmp_path, "at", interval="hour").view("clicks")


def test_a_batch_that_does_not_say_its_column_is_followed_by_any(tmp_path: Path):
    commit(tmp_path, batch(tmp_path, "at", timed={}))
    check_timed(pipeline(tmp_path, "seen"), engine(tmp_path, "at").view("clicks").coverage)


def test_a_table_of_backfills_alone_is_stale_or_missing_under_another_event_time(tmp_path: Path):
    before, read = engine(tmp_path, "at"), {"events": inputs.describe_listing([])}
    code = before.project.fingerprint("clicks")
    commit(tmp_path, Swap("clicks", "r", 0, code, -1, read, {D1: IntervalResult(1, None, 1, 0)}))
    for each, then in ((before, "clean"), (engine(tmp_path, "seen"), "stale")):
        plan = each.plan("clicks", Request.between(D1, "2013-01-03"))
        why = {label: text.partition(":")[0] for label, text in plan.why.items()}
        assert why == {D1: then, D2: "missing"}
