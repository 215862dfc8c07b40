"""What a run looks up in a log that upkeep has cleaned meanwhile: it begins again, and takes nothing for unsaid."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tidemill.config import Project
from tidemill.deciding.fold import AGAIN
from tidemill.deciding.seeds import Seed as Decided
from tidemill.execution.decisions import Decisions
from tidemill.execution.follow import only_grew
from tidemill.execution.schemas import StartAgain
from tidemill.execution.seeds import Unheard
from tidemill.execution.taken import Watch
from tidemill.ledger import index
from tidemill.ledger.carried import Seed
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import Erased, Fact, IntervalResult, LiveBatch, Swap, to_json
from tidemill.model import Pipeline
from tidemill.planning.plan import InputPin, Pin
from tidemill.sinks.tables import Table
from tidemill.view import shape_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

D1 = "2013-01-01"
BATCH = LiveBatch("p", "r", "code", "q", 0, {}, {}, stateful=False)
SEED = Seed("begin-1", "q", 0, 0)


def pipeline(root: Path, name: str, **more: Any) -> Pipeline:
    values = {
        "name": name,
        "source": {"delta": {"path": str(root / "in")}},
        "event_time": {"column": "at"},
        "interval": "day",
        "transform": "code:made",
        "sink": {"delta": {"path": str(root / name)}},
    }
    return Pipeline.model_validate({name: each for name, each in (values | more).items() if each is not None})


def commit(made: Pipeline, version: int, fact: Fact) -> None:
    folder = Path(made.table.path) / "_delta_log"
    folder.mkdir(parents=True, exist_ok=True)
    info = {"timestamp": version, "userMetadata": to_json(fact)}
    (folder / f"{version:020d}.json").write_text(json.dumps({"commitInfo": info}))


def clean(made: Pipeline, before: int) -> None:
    for path in (Path(made.table.path) / "_delta_log").glob("*.json"):
        if int(path.stem) < before:
            path.unlink()


def swap(**more: Any) -> Swap:
    return Swap("p", "r1", 0, "code", 0, {}, {D1: IntervalResult(1)}, **more)


def test_a_restart_that_was_not_heard_of_ends_the_run_and_so_does_not_knowing(tmp_path: Path):
    made = pipeline(tmp_path, "p")
    facts: tuple[Fact, ...] = (BATCH, BATCH, swap(), swap(seed=SEED), BATCH, BATCH)
    for version, fact in enumerate(facts):
        commit(made, version, fact)

    def unheard(version: int, seed: Seed | None = None) -> Unheard:
        return Unheard(made, Coverage(version=version, seed=seed))

    def at(version: int) -> Table:
        return cast("Table", SimpleNamespace(version=version))

    one = unheard(1)
    one.check(at(2))
    with pytest.raises(StartAgain, match="with the states that a restart has made"):
        one.check(at(4))
    unheard(1, SEED).check(at(4))
    # What is beyond the version that the commit would follow is the next look's.
    unheard(1).check(at(2))
    clean(made, 4)
    with pytest.raises(StartAgain, match="since upkeep has cleaned"):
        unheard(1).check(at(4))
    # What others have not added to is not looked at; what is there still says all there is to say.
    unheard(1).check(at(1))
    later = unheard(4)
    later.check(at(5))
    later.published()
    later.check(at(6))


def test_a_rebuild_is_not_brought_up_over_commits_that_are_gone(tmp_path: Path):
    made = pipeline(
        tmp_path, "p", source={"files": {"path": "in", "format": "json", "schema": "at TIMESTAMP"}}
    )
    erased = Erased("p", "e", (D1,), 0)
    for version, fact in enumerate((BATCH, BATCH, BATCH, erased, BATCH)):
        commit(made, version, fact)
    pins = [Pin(version, True, {}, {"events": InputPin("", [])}) for version in range(5)]
    assert only_grew(made, pins[0], pins[2])
    assert not only_grew(made, pins[0], pins[3])
    clean(made, 2)
    assert not only_grew(made, pins[0], pins[2])
    assert only_grew(made, pins[1], pins[2])


def test_a_stream_looks_anew_for_persons_taken_out_where_upkeep_has_cleaned_what_would_say(tmp_path: Path):
    visits = {"delta": {"path": str(tmp_path / "in")}}
    letters = pipeline(
        tmp_path, "letters", source=visits | {"personal": {"keys": "keys.db", "open": ["email"]}}
    )
    beside = {"delta": {"path": str(tmp_path / "letters")}, "static": True}
    reader = pipeline(tmp_path, "reader", source=None, sources={"visits": visits, "letters": beside})
    watch = Watch(Project(str(tmp_path), {"letters": letters, "reader": reader}), reader)
    watch.begin()
    assert watch.taken() == {}  # there is no table yet
    for version in range(3):
        commit(letters, version, BATCH)
    assert watch.taken() == {}
    commit(letters, 3, swap(erased=(D1,)))
    commit(letters, 4, BATCH)
    index.before_cleaning(letters.table.path, letters.table.state_path, shape_of(letters))
    clean(letters, 4)
    with pytest.raises(StartAgain, match="since upkeep has cleaned what others committed to letters"):
        watch.taken()
    watch.begin()
    assert watch.taken() == {"letters": 3}
    # A log that was cleaned behind what was looked at says nothing new.
    commit(letters, 5, BATCH)
    assert watch.taken() == {"letters": 3}


def test_a_batch_that_another_driver_has_decided_is_not_made_again_from_what_this_one_knows(tmp_path: Path):
    said: list[tuple[str, str]] = []
    context = SimpleNamespace(setLocalProperty=lambda name, value: said.append((name, value)))
    spark = cast("SparkSession", SimpleNamespace(sparkContext=context))
    decisions = Decisions(spark, pipeline(tmp_path, "p"), Decided("s", None), {}, ("tidemill/p/q", 6))
    with decisions.again("tidemill/p/q", 6):
        assert said == [(AGAIN, "yes")]
    assert said.pop() == (AGAIN, "")
    # Published while the run began: by one that had lost its lease, or under a checkpoint of before.
    for app, batch in (("tidemill/p/q", 7), ("tidemill/p/other", 6)):
        with (
            pytest.raises(StartAgain, match="from what another driver has decided"),
            decisions.again(app, batch),
        ):
            pytest.fail("it was made again")
    assert said == [(AGAIN, "yes")]
