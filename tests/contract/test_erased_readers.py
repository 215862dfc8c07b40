"""A person is erased, and tables that were made of their opened fields are computed anew, in any order of steps: none is clean
that still holds something of the person, as long as what it was made from is clean. No Spark.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidemill.config import Project
from tidemill.errors import PlanError
from tidemill.execution import swap
from tidemill.execution.follow import only_grew
from tidemill.execution.reach import mark
from tidemill.execution.runs import Manifest
from tidemill.execution.schemas import StartAgain
from tidemill.execution.taken import Watch, check_nobody_erased, taken_out
from tidemill.intervals import Grain
from tidemill.ledger import index
from tidemill.ledger.coverage import ERASED, Coverage
from tidemill.ledger.facts import Erased, IntervalResult, LiveBatch
from tidemill.ledger.judge import State, judge
from tidemill.model import Pipeline
from tidemill.planning.plan import InputPin, Pin
from tidemill.sinks.publish import appended, publish
from tidemill.sinks.table import AppVersion, LogTable
from tidemill.view import happened_upstream, shape_of, taken_beside

SCHEMA = {
    "type": "struct",
    "fields": [
        {"name": "id", "type": "long", "nullable": True, "metadata": {}},
        {"name": "event_date", "type": "date", "nullable": True, "metadata": {}},
    ],
}
DAYS = ("2024-03-01", "2024-03-02", "2024-03-03")
DAY = DAYS[1]
OPENS = {"personal": {"keys": "keys.db", "open": ["email"]}}


def pipeline(root: Path, name: str, *reads: str, static: tuple[str, ...] = (), **more: Any) -> Pipeline:
    opens = OPENS if more.pop("opens", False) else {}
    sources: dict[str, Any] = {each: {"delta": {"path": str(root / each)}, **opens} for each in reads}
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
    return made


def project_in(root: Path) -> Project:
    made = [
        pipeline(root, "letters", "visits", opens=True),
        pipeline(root, "whole", "visits", static=("letters",)),
        pipeline(root, "further", "visits", static=("whole",)),
        pipeline(root, "aside", "visits", static=("letters_quarantine",)),
        pipeline(root, "part", "letters"),
        pipeline(root, "near", "letters", lookback="1h"),
        pipeline(root, "last", "visits", static=("part",)),
        pipeline(root, "other", "visits"),
    ]
    return Project(str(root), {each.name: each for each in made})


def coverage_of(made: Pipeline) -> Coverage:
    return index.read(made.table.path, made.table.state_path, shape_of(made))


@dataclass
class Step:
    """A chunk that was staged, or a batch that has read its input: published later, or never."""

    manifest: Manifest | None
    text: bool
    taken: Any = None


@dataclass
class World:
    """Tables, and what their rows hold by what was read for them: (version, whether the person can be read in it)."""

    project: Project
    key: bool = True
    marked: bool = False
    rows: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    staged: dict[str, Step] = field(default_factory=dict)
    read: dict[str, Step] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)
    steps: int = 0

    def text(self, name: str) -> bool:
        if name == "visits":
            return False
        return any(text for _, text in self.rows.get(name, ()))

    def table(self, name: str) -> LogTable:
        table = LogTable.open(self.project.pipeline(name).table.path, Grain.DAY)
        assert table is not None
        return table

    def found(self, name: str) -> bool:
        """Whether the person can be read in what is computed now."""
        if name == "letters":
            return self.key
        inputs = self.project.pipeline(name).inputs
        return any(self.text(each.removesuffix("_quarantine")) for each in inputs)

    def stage(self, name: str, days: tuple[str, ...] = DAYS) -> None:
        made, self.steps = self.project.pipeline(name), self.steps + 1
        taken, version = taken_beside(self.project, made), self.table(name).version
        ends = {each: {"version": self.table(each).version} for each in made.moving if each != "visits"}
        results = {day: IntervalResult(rows=0) for day in days}
        manifest = Manifest(
            f"r{self.steps}",
            0,
            "f",
            version,
            ends,
            provisional=False,
            labels=days,
            staged=(),
            replaced=(),
            results=results,
            beside=taken,
        )
        self.staged[name] = Step(manifest, self.found(name))

    def land(self, name: str) -> None:
        step, made = self.staged.pop(name, None), self.project.pipeline(name)
        if step is None or step.manifest is None:
            return
        erased = taken_out(self.project, made, step.manifest)
        swap.swap_chunk(made, self.table(name), step.manifest, erased=erased)
        kept = [(version, text) for version, text in self.rows.get(name, ()) if version > step.manifest.pin]
        self.rows[name] = [*kept, (self.table(name).version, step.text)]

    def compute(self, name: str) -> None:
        self.stage(name)
        self.land(name)

    def look(self, name: str) -> None:
        """A batch of a stream has read its input."""
        text = self.found(name)
        watch = self.watches.get(name)
        if watch is None:
            watch = self.watches[name] = Watch(self.project, self.project.pipeline(name))
            watch.begin()
        try:
            self.read[name] = Step(None, text, watch.taken())
        except StartAgain:
            watch.begin()
            self.read[name] = Step(None, self.found(name), watch.taken())

    def commit(self, name: str) -> None:
        step = self.read.pop(name, None)
        if step is None:
            return
        self.steps += 1
        end = {"visits": {"place": 0, "offset": None}}
        fact = LiveBatch(name, "live", "f", "q", self.steps, {}, end, stateful=False, reached=DAYS)
        change = appended((), replace(fact, beside=step.taken), AppVersion("q", self.steps))
        publish(self.table(name), change)
        self.rows[name] = [*self.rows.get(name, ()), (self.table(name).version, step.text)]

    def erase_key(self) -> None:
        self.key = False

    def mark(self) -> None:
        self.erase_key()
        mark(self.project.pipeline("letters"), DAYS, "e1", pytest.fail, seen=99)
        self.marked = True

    def clean(self, name: str) -> bool:
        made = self.project.pipeline(name)
        coverage = coverage_of(made)
        upstream = happened_upstream(self.project, made, coverage).reasons
        found = judge(coverage, shape_of(made), "f", upstream=upstream)
        return all(each.state is State.CLEAN for each in found if each.interval.label in DAYS)

    def check(self) -> None:
        """No table is clean and has the person, at whatever remove from the one that opens."""
        for name in self.rows if self.marked else ():
            assert not (self.clean(name) and self.text(name)), name

    def settle(self) -> None:
        """All is computed anew, in order: then nobody has the person, and all is clean."""
        for name in ("letters", "whole", "part", "aside", "further", "last"):
            self.compute(name)
            assert self.clean(name), name
            assert not self.text(name)
            self.check()


TABLES = ("letters", "whole", "part", "further", "last", "aside")
steps = st.sampled_from(
    [
        *[("stage", name) for name in TABLES],
        *[("land", name) for name in TABLES],
        ("look", "whole"),
        ("commit", "whole"),
        ("erase_key",),
        ("mark",),
    ]
)
OF_WHOLE = [("stage", "whole"), ("mark",), ("stage", "letters"), ("land", "letters"), ("land", "whole")]
BATCH = [("look", "whole"), ("mark",), ("stage", "letters"), ("land", "letters"), ("commit", "whole")]
LETTERS, PART = (
    [("stage", "letters"), ("land", "letters")],
    [("stage", "part"), ("land", "part")],
)
EARLY = [("erase_key",), *LETTERS, *PART, ("mark",), *LETTERS]


@settings(max_examples=40, deadline=None)
@given(history=st.lists(steps, min_size=4, max_size=14))
@example(history=OF_WHOLE)
@example(history=[*OF_WHOLE, ("stage", "further"), ("land", "further")])
@example(history=BATCH)
@example(history=[*BATCH, ("look", "whole"), ("commit", "whole")])
@example(history=EARLY)
@example(history=[*EARLY, *PART])
def test_nobody_is_clean_and_has_them(history: list[tuple[str, ...]]):
    with TemporaryDirectory() as folder:
        world = World(project_in(Path(folder)))
        for name in TABLES:
            world.compute(name)
            assert world.text(name)
            assert world.clean(name)
        for verb, *name in history:
            getattr(world, verb)(*name)
            world.check()
        world.mark()
        world.check()
        world.settle()


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(project_in(tmp_path))
    for name in made.project.pipelines:
        made.compute(name)
    return made


def dirty(world: World) -> dict[str, set[str]]:
    found = {}
    for name, made in world.project.pipelines.items():
        reasons = happened_upstream(world.project, made, coverage_of(made)).reasons
        if reasons:
            found[name] = {day for day in reasons if day in DAYS}
    return found


def test_readers_are_dirty_where_they_may_hold_what_was_taken_out(world: World):
    mark(world.project.pipeline("letters"), (DAY,), "e1", pytest.fail, seen=99)
    # Already now: they hold what letters does, at any remove, and what they compute from it holds it, too.
    before = {
        "whole": set(DAYS),
        "further": set(DAYS),
        "aside": set(DAYS),
        "part": {DAY},
        "near": {DAY, DAYS[2]},
        "last": set(DAYS),
    }
    assert dirty(world) == before
    world.compute("part")
    world.compute("whole")
    assert dirty(world) == before
    world.key = False

    world.compute("letters")

    assert dirty(world) == before
    # It ends where all is computed again; a further swap of the same takes nobody out.
    world.settle()
    world.compute("near")
    world.compute("letters")
    assert dirty(world) == {}
    assert set(Erased.__slots__) == {"pipeline", "run", "intervals", "seen", "gone"}  # not whose


def test_what_is_older_than_an_erasure_neither_comes_nor_comes_back(world: World):
    letters = world.project.pipeline("letters")
    world.stage("letters")
    before = world.staged["letters"].manifest
    assert before is not None
    check_nobody_erased(letters, before, "published")

    mark(letters, (DAY,), "e1", pytest.fail, seen=99)

    with pytest.raises(PlanError, match=r"run r\d+ is not published: a person was erased from 2024-03-02"):
        check_nobody_erased(letters, before, "published")
    world.stage("letters")
    after = world.staged["letters"].manifest
    assert after is not None
    check_nobody_erased(letters, after, "published")
    world.land("letters")
    # Now it has replaced what has the person, and what was staged before is no mark's any more.
    assert not any(each.why == ERASED for each in coverage_of(letters).intervals[DAY].marks)
    for older in (before, after):
        with pytest.raises(
            PlanError, match=f"is not undone: what it would put back into {DAY} is from before"
        ):
            check_nobody_erased(letters, older, "undone")
    check_nobody_erased(letters, replace(after, labels=(DAYS[0],)), "undone")
    world.compute("other")
    world.stage("other")
    check_nobody_erased(world.project.pipeline("other"), replace(before, run="other"), "undone")


def test_what_was_staged_is_not_followed_up_past_an_erasure(tmp_path: Path):
    made = pipeline(tmp_path, "counts", sources={"events": _files(tmp_path)})
    first = LogTable(made.table.path, Grain.DAY).version
    before, now = (
        Pin(first + more, live=True, source_end={}, inputs={"events": InputPin("", [])}) for more in (0, 1)
    )
    assert only_grew(made, before, before)

    mark(made, (DAY,), "e1", pytest.fail, seen=99)

    assert not only_grew(made, before, now)
    assert only_grew(made, now, now)


def _files(root: Path) -> dict[str, Any]:
    return {"files": {"path": str(root), "format": "json", "schema": "id BIGINT, at TIMESTAMP"}}
