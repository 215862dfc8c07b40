"""What an erasure reaches besides the rows that inputs hold of a person now, and what hinders it. No Spark: what it would find is said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_erased_readers import DAY, DAYS, SCHEMA
from tidemill import Engine
from tidemill.config import load_project
from tidemill.erasure.keys import FileKeys
from tidemill.errors import PlanError, StateError
from tidemill.execution import reach
from tidemill.execution.reach import Reached
from tidemill.execution.runs import Manifest
from tidemill.execution.same_keys import check_keys
from tidemill.execution.schemas import StartAgain
from tidemill.execution.taken import Watch, check_nobody_erased, taken_out
from tidemill.intervals import Grain
from tidemill.ledger.coverage import ERASED
from tidemill.ledger.facts import Expired, Fact, IntervalResult, LiveBatch, Swap
from tidemill.ledger.judge import State
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion, LogTable

READS = {
    "visits": "{files: {path: in, format: json, schema: 'user STRING, email STRING, at TIMESTAMP'}, "
    "personal: {keys: visits.db, subject: user, seal: [email]}}",
    "calls": "{files: {path: in, format: json, schema: 'user STRING, email STRING, at TIMESTAMP'}, "
    "personal: {keys: calls.db, subject: user, seal: [email]}}",
    "letters": "{delta: {path: visits}, personal: {keys: visits.db, open: [email]}}",
    "names": "{delta: {path: visits}}",
}
STATIC = {"desk": ("letters", ""), "book": ("visits", ", personal: {keys: visits.db, open: [email]}")}


class World:
    """A project without rows: what its commits say is written by hand, and what its inputs hold of the person is told."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.count = root, 0
        self.held: dict[str, tuple[str, ...] | Exception] = {}
        (root / "conf/pipelines").mkdir(parents=True)
        (root / "code.py").write_text("def made(*rows, **more):\n    return rows\n")
        for name, source in READS.items():
            self.write(name, f"source: {source}")
        for name, (table, personal) in STATIC.items():
            read = f"{{delta: {{path: {table}}}, static: true{personal}}}"
            self.write(name, f"sources: {{moving: {{delta: {{path: visits}}}}, whole: {read}}}")
        monkeypatch.setattr(reach, "_looked", self.looked)

    def write(self, name: str, source: str) -> None:
        (self.root / f"conf/pipelines/{name}.yml").write_text(
            f"{source}\nevent_time: {{column: at}}\ninterval: day\ntransform: code:made\nsink: {{delta: {{path: {name}}}}}\n"
        )

    def looked(self, _engine: Engine, view: Any, _subject: str) -> Reached:
        held = self.held.get(view.pipeline.name, ())
        if isinstance(held, Exception):
            raise held
        return Reached(view.pipeline.name, len(held), held)

    @property
    def engine(self) -> Engine:
        return Engine(load_project(self.root))

    def commit(self, name: str, fact: Fact) -> int:
        table = LogTable.open(str(self.root / name), Grain.DAY)
        table = table or LogTable.create(str(self.root / name), Grain.DAY, SCHEMA)
        self.count += 1
        publish(table, Change((), (), fact, AppVersion(f"{name}-{self.count}", 1)))
        table.refresh()
        return table.version

    def swap(self, name: str, *days: str, removed: int = 0, **more: Any) -> int:
        """All of these intervals are computed by today's code, of all that is upstream now."""
        project = self.engine.project
        made, version = project.pipeline(name), self.version(name)
        ends = {
            each: {"version": self.version(Path(made.inputs[each].source.mark).name)} for each in made.moving
        }
        results = {day: IntervalResult(1, "h", 1, removed) for day in days or DAYS}
        fact = Swap(
            name, "r", self.count, project.fingerprint(name), version, ends, results, opened=made.holds_opened
        )
        return self.commit(name, replace(fact, **more))

    def manifest(self, name: str) -> Manifest:
        version, code = self.version(name), self.engine.project.fingerprint(name)
        return Manifest("r", 0, code, version, {}, False, DAYS, (), (), {})

    def version(self, name: str) -> int:
        table = LogTable.open(str(self.root / name), Grain.DAY)
        return -1 if table is None else table.version

    def dirty(self) -> dict[str, set[str]]:
        found = {
            name: {each.interval.label for each in self.engine.view(name).judged if each.state is State.DIRTY}
            for name in (*READS, *STATIC)
        }
        return {name: days for name, days in found.items() if days}

    def reached(self) -> dict[str, set[str]]:
        return {
            each.pipeline: set(each.intervals)
            for each in self.engine.erase("ada").pipelines
            if each.intervals
        }


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # The person was seen once: of whom no key is known, `erase` does nothing.
    FileKeys(str(tmp_path / "visits.db")).keys(["ada"])
    return World(tmp_path, monkeypatch)


def test_what_hinders_one_pipeline_hinders_no_other_and_all_is_said(world: World):
    for name in ("visits", "calls", "letters"):
        check_keys(world.engine.project.pipeline(name))
        world.commit(name, _batch(world, name))
    FileKeys(str(world.root / "calls.db")).keys(["ada"])
    (world.root / "calls.db").rename(world.root / "lost")
    world.held = {"visits": OSError("torn apart"), "letters": (DAY,), "calls": (DAY,)}

    with pytest.raises(StateError) as foreseen:
        world.engine.erase("ada", dry_run=True)
    with pytest.raises(StateError) as caught:
        world.engine.erase("ada")

    assert "not all that would be reached" in foreseen.value.message
    assert f"the key is gone from {world.root}/visits.db alone, for good; but not all" in caught.value.message
    for said in ("visits: torn apart", f"calls: the keys {world.root}/calls.db are not there"):
        assert said in foreseen.value.message
        assert said in caught.value.message
    assert "batch" not in str(caught.value)
    assert "erase again" in caught.value.next_step
    with pytest.raises(StateError) as unknown:  # the store that is lost may be the one that knows them
        world.engine.erase("eve")
    assert unknown.value.message.startswith("no key was erased:")
    assert FileKeys(str(world.root / "visits.db")).known(["eve"]) == {}
    assert caught.value.params == {"key_is_gone": True, "problems": 2}
    assert FileKeys(str(world.root / "visits.db")).known(["ada"]) == {"ada": None}
    assert not (world.root / "calls.db").exists()
    # Of what cannot be read all may be the person's; what is sealed with the other keys waits for these.
    assert world.dirty() == {"letters": {DAY}, "visits": {DAYS[0], DAY}}

    (world.root / "lost").rename(world.root / "calls.db")
    world.held |= {"visits": (DAY,)}
    found = world.engine.erase("ada")
    assert (found.keys, found.backfill[-1]) == (1, "calls")
    assert found.backfill.index("visits") < found.backfill.index("letters") < found.backfill.index("desk")
    assert world.dirty() == {"letters": {DAY}, "visits": {DAYS[0], DAY}, "calls": {DAY}}


def test_where_rows_would_be_looked_for_by_another_event_time_all_is_marked_and_it_is_said(world: World):
    check_keys(world.engine.project.pipeline("visits"))
    FileKeys(str(world.root / "visits.db")).keys(["ada"])
    world.commit("visits", replace(_batch(world, "visits"), timed={"events": "seen"}))
    world.held = {"visits": (DAY,)}

    with pytest.raises(StateError, match="stream has read events by the event time seen") as caught:
        world.engine.erase("ada")

    assert caught.value.params == {"key_is_gone": True, "problems": 1}
    assert world.dirty() == {"visits": {DAYS[0], DAY}}


def test_where_no_store_is_what_it_was_no_key_goes_and_it_is_said(world: World):
    for name in ("visits", "calls"):
        check_keys(world.engine.project.pipeline(name))
        (world.root / f"{name}.db").unlink()

    with pytest.raises(StateError, match="no key was erased") as caught:
        world.engine.erase("ada")

    assert caught.value.params == {"key_is_gone": False, "problems": 2}


def test_what_was_made_of_rows_that_are_gone_is_marked_whether_it_was_clean_or_not(world: World):
    for name in ("visits", "letters", "desk"):
        world.swap(name)
    assert world.reached() == {}
    assert world.dirty() == {}

    world.commit("visits", Expired("visits", 60, {DAYS[0]: 1}, {}))
    assert world.dirty() == {}
    assert world.reached() == {"letters": {DAYS[0]}}
    assert world.dirty() == {"letters": {DAYS[0]}, "desk": set(DAYS)}
    # Who reads it now reads it without, and is marked no more.
    world.swap("letters", erased=(DAYS[0],))
    world.swap("desk", beside={"whole": world.version("letters")})
    assert world.reached() == world.dirty() == {}

    world.swap("visits", DAY, removed=1)
    assert world.dirty() == {"letters": {DAY}, "desk": {DAY}}
    assert world.reached() == {"letters": {DAY}}
    assert [mark.why for mark in world.engine.view("letters").coverage.intervals[DAY].marks] == [ERASED]


def test_who_has_read_a_table_whole_before_rows_went_from_it_is_dirty(world: World):
    for name in ("visits", "letters", "desk"):
        world.swap(name)
    project = world.engine.project
    world.swap("letters", DAY, removed=1)
    assert world.dirty() == {}
    stream = Watch(project, project.pipeline("desk"))
    stream.begin()

    found = world.engine.erase("ada", dry_run=True)
    assert world.dirty() == {}
    assert world.engine.erase("ada").pipelines == found.pipelines

    assert [(each.pipeline, each.intervals, each.beside) for each in found.pipelines if each.beside] == [
        ("letters", (), ("desk",))
    ]
    assert found.backfill == found.maintain == ("desk",)
    assert world.dirty() == {"desk": set(DAYS)}
    with pytest.raises(StartAgain):
        stream.taken()
    world.swap("desk", beside={"whole": world.version("letters")})
    assert world.dirty() == {}


def test_a_static_input_that_opens_may_have_lost_the_person_if_it_has_lost_rows(world: World):
    book = world.engine.project.pipeline("book")
    world.swap("visits")
    assert not reach._may_have_lost(book, book.inputs["whole"])
    world.swap("visits", DAY, removed=1)
    assert reach._may_have_lost(book, book.inputs["whole"])
    files = world.engine.project.pipeline("visits").inputs["events"]
    assert reach._may_have_lost(book, files)


@pytest.mark.parametrize("computed", [False, True])
def test_what_code_of_before_has_opened_is_named_when_today_s_opens_nothing(world: World, *, computed: bool):
    for name in ("visits", "letters", "desk"):
        world.swap(name)
    old = world.manifest("letters")
    world.write("letters", f"source: {READS['names']}")
    if computed:
        world.swap("letters", removed=1)
    assert world.dirty() == {}

    found = world.engine.erase("ada")

    assert world.dirty()["desk"] == set(DAYS)
    assert found.maintain[-1] == "desk"
    if computed:
        assert world.dirty().keys() == {"desk"}
        return
    assert world.dirty()["letters"] == set(DAYS)
    (letters,) = (each for each in found.pipelines if each.pipeline == "letters")
    assert (letters.intervals, letters.opens, letters.rows) == (DAYS, True, 0)
    assert ("letters" in found.backfill, "letters" in found.maintain) == (True, True)
    project = world.engine.project
    with pytest.raises(PlanError, match="a person was erased"):
        check_nobody_erased(project.pipeline("letters"), old, "published")
    assert taken_out(project, project.pipeline("letters"), world.manifest("letters")) == DAYS
    world.swap("letters", erased=DAYS)
    assert world.dirty() == {"desk": set(DAYS)}


def test_a_stream_whose_keys_are_lost_stops_before_it_publishes(world: World):
    project = world.engine.project
    visits, keys = project.pipeline("visits"), FileKeys(str(world.root / "visits.db"))
    check_keys(visits)
    stream = Watch(project, visits)
    stream.begin()
    assert stream.before(3) == {"beside": {}, "began": 3, "opened": False}
    stream.sealed()
    (world.root / "visits.db").rename(world.root / "lost")
    with pytest.raises(StateError, match=r"keys .* are not there"):
        stream.before(4)
    assert not (world.root / "visits.db").exists()
    keys.keys(["ada"])  # as a task does, where it is lost within a batch
    with pytest.raises(StateError, match=r"keys .* are another store"):
        stream.sealed()
    shutil.move(world.root / "lost", world.root / "visits.db")
    stream.before(5)


def _batch(world: World, name: str) -> LiveBatch:
    end = {"events": {"place": 0, "offset": None}}
    code = world.engine.project.fingerprint(name)
    return LiveBatch(name, "live", code, "q", 0, {}, end, stateful=False, reached=(DAYS[0], DAY))
