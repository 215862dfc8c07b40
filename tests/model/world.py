"""A pipeline without Spark and without a disk, small enough to try everything that can happen to it.

Publishing, swapping, undoing, pinning, folding and judging are the engine's own functions. What is the model's: a table
whose log and files are values in memory, a source of three files, and rows computed by hand. A row is an event's id and
the version of the code that made it.

Two intervals, a live writer, and two backfillers that hold no lease: one may be a zombie.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from unittest.mock import patch

from tidemill.config import Project, parse_pipeline
from tidemill.errors import CommitConflict
from tidemill.execution import pins, standing, swap
from tidemill.execution.runs import Manifest
from tidemill.ledger import inputs
from tidemill.ledger.coverage import Coverage, fold_all
from tidemill.ledger.facts import Commit, IntervalResult, LiveBatch, from_json
from tidemill.ledger.judge import State, judge
from tidemill.protocol import Point, listening
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion, Raced
from tidemill.view import shape_of

A, B = "2024-03-01", "2024-03-02"
LABELS = (A, B)
FILES: tuple[tuple[tuple[int, str], ...], ...] = (((1, A), (2, B)), ((3, A),), ((4, A), (5, B)))
"""The source: events (id, interval) by file. One file makes one batch."""
LATE = 4
"""The event that comes too late for the live stream's state: the stream leaves it out, and says so."""
PIPELINE = parse_pipeline(
    {
        "name": "model",
        "source": {"files": {"path": "in", "format": "json", "schema": "id INT, at TIMESTAMP"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": "table"}},
    },
    "/model",
)
_SHAPE = shape_of(PIPELINE)
Rows = Counter[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit: what it says, and what it did."""

    metadata: str
    app: AppVersion
    add: tuple[DataFile, ...]
    remove: tuple[DataFile, ...]


@dataclass(slots=True)
class Live:
    """The live driver. ``offsets`` and ``commits`` are Spark's logs, which survive a crash; the rest does not."""

    code: int = 1
    offsets: int = -1
    commits: int = -1
    staged: tuple[DataFile, ...] | None = None
    published: bool = False


@dataclass(slots=True)
class Backfill:
    """One backfiller: what it has staged, and what it has published. Both are on disk, and survive."""

    staged: Manifest | None = None
    done: list[Manifest] = field(default_factory=list)
    runs: int = 0


class Table:
    """The engine's table protocol over a list of commits. ``forgets``: it does not know what it has published."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.path, self.grain = PIPELINE.table.path, PIPELINE.grain
        self.append_only = False
        self.parts_rows = True
        self.refresh()

    def refresh(self) -> None:
        self.version = len(self._world.log) - 1

    def app_version(self, app: str) -> int | None:
        known = [e.app.version for e in self._world.log[: self.version + 1] if e.app.app == app]
        return None if self._world.forgets else max(known, default=None)

    def live_files(self) -> dict[str, DataFile]:
        return self.files_at(self.version)

    def files_at(self, version: int) -> dict[str, DataFile]:
        live: dict[str, DataFile] = {}
        for entry in self._world.log[: version + 1]:
            for file in entry.remove:
                live.pop(file.path, None)
            live |= {file.path: file for file in entry.add}
        return live

    def lost(self, _files: Any) -> list[str]:
        return []

    def commit(self, add: Any, remove: Any, metadata: str, app: AppVersion, _at: int, **_more: Any) -> None:
        if self.version != len(self._world.log) - 1:
            raise Raced("another commit came first")
        self._world.log.append(Entry(metadata, app, tuple(add), tuple(remove)))
        self.version += 1

    def checkpoint_sometimes(self) -> None:
        pass


class World:
    """Everything that is on disk or in a process. Actions change it; :meth:`after` gives a changed copy."""

    now: ClassVar[World]
    """The world that things happen in."""

    def __init__(self, *, live: bool = True, forgets: bool = False) -> None:
        self.forgets = forgets
        # The first commit made the table.
        self.log: list[Entry] = [Entry("", AppVersion("made", 0), (), ())]
        self.arrived = len(FILES) if live else 1
        self.code = 1
        self.live = Live() if live else None
        self.backfills = [Backfill(), Backfill()]

    def after(self, action: Action) -> World:
        """The world when ``action`` has happened to it."""
        then = copy.copy(self)
        then.log, then.live = list(self.log), copy.copy(self.live)
        then.backfills = [Backfill(b.staged, list(b.done), b.runs) for b in self.backfills]
        World.now = then
        action.do(then)
        return then

    def key(self) -> tuple[object, ...]:
        """Equal for worlds in which the same can happen."""
        live = None if self.live is None else repr(self.live)
        backfills = tuple(
            (b.runs, _key(b.staged), tuple(_key(done) for done in b.done)) for b in self.backfills
        )
        return self.arrived, self.code, live, backfills, tuple((e.app, e.metadata) for e in self.log)

    # -- what the engine sees

    def coverage(self) -> Coverage:
        return fold_all(Coverage(), self.commits_after(-1), _SHAPE)

    def commits_after(self, version: int) -> list[Commit]:
        facts = [(v, from_json(self.log[v].metadata)) for v in range(version + 1, len(self.log))]
        return [Commit(v, 1000 * v, fact) for v, fact in facts if fact is not None]

    # -- what is asserted

    def breaks(self) -> str | None:
        """How this world breaks the law; None when it does not."""
        World.now = self
        coverage = self.coverage()
        have = self.rows()
        end = coverage.source_end
        files = FILES[: self.arrived] if end is None else FILES[: end["events"]["offset"]["logOffset"] + 1]
        for judged in judge(coverage, _SHAPE, f"code{self.code}", upstream=self._upstream(coverage)):
            label = judged.interval.label
            want = Counter((id_, self.code) for file in files for id_, at in file if at == label)
            if judged.state is State.CLEAN and have[label] != want:
                return f"{label} is called clean and holds {dict(have[label])}, not {dict(want)}"
            if judged.detail.rows != have[label].total():
                return f"{label} has {have[label].total()} rows, and the ledger counts {judged.detail.rows}"
            if max(Counter(id_ for id_, _ in have[label].elements()).values(), default=1) > 1:
                return f"{label} holds an event twice: {dict(have[label])}"
        return None

    def rows(self) -> dict[str, Rows]:
        """What the table holds, by interval."""
        found: dict[str, Rows] = {label: Counter() for label in LABELS}
        for file in Table(self).live_files().values():
            found[file.label].update(_rows(file))
        return found

    def _upstream(self, coverage: Coverage) -> dict[str, str]:
        # As for a folder without a live stream: what was computed from a shorter listing is dirty.
        if self.live is not None:
            return {}
        now = inputs.describe_listing([f"f{n}" for n in range(self.arrived)])
        return {
            label: "the folder has changed"
            for label, each in coverage.intervals.items()
            if each.read is not None and each.read["events"] != now
        }


def _key(manifest: Manifest | None) -> object:
    return None if manifest is None else (manifest.run, manifest.pin, manifest.staged, manifest.replaced)


def file_of(name: str, label: str, rows: Rows) -> DataFile:
    """A data file; its rows are in its ``stats``, where the model finds them again."""
    text = ",".join(f"{id_}:{code}:{count}" for (id_, code), count in sorted(rows.items()))
    return DataFile(f"{label}/{name}", label, rows.total(), rows.total(), 0, text)


def _rows(file: DataFile) -> Rows:
    cells = [part.split(":") for part in (file.stats or "").split(",") if part]
    return Counter({(int(id_), int(code)): int(count) for id_, code, count in cells})


@dataclass(frozen=True, slots=True)
class Action:
    """One step of one writer."""

    text: str
    do: Callable[[World], None]


def actions(world: World) -> Iterator[Action]:
    """Everything that can happen next."""
    World.now = world
    if world.code == 1:
        yield Action("the code changes", _change_code)
    if world.live is not None:
        yield from _live_actions(world, world.live)
    elif world.arrived < len(FILES):
        yield Action("a file arrives", _arrive)
    for number, each in enumerate(world.backfills):
        if each.staged is None and (world.live is None or world.coverage().live):
            for labels in ((A,), LABELS):
                what = f"backfill {number} stages {' and '.join(labels)}"
                yield Action(what, lambda w, n=number, ls=labels: _stage(w, n, ls))
        if each.staged is not None:
            yield Action(f"backfill {number} swaps", lambda w, n=number: _swap(w, n))
            if world.live is not None and world.live.staged is not None:
                yield Action(
                    f"backfill {number} swaps, and live publishes between its checks and its commit",
                    lambda w, n=number: _raced(w, lambda: _swap(w, n), lambda: _publish(w)),
                )
        if each.done:
            yield Action(f"backfill {number} is undone", lambda w, n=number: _undo(w, n))


def _live_actions(world: World, live: Live) -> Iterator[Action]:
    if live.published:
        yield Action("Spark notes the batch", _note)
        yield Action("live crashes after its commit", _crash)
    elif live.staged is not None:
        yield Action("live publishes", _publish)
        yield Action("live crashes before its commit", _crash)
    elif max(live.offsets, live.commits + 1) < len(FILES):
        yield Action("live stages a batch", _live_stage)


def _change_code(world: World) -> None:
    world.code = 2


def _arrive(world: World) -> None:
    world.arrived += 1


def _crash(world: World) -> None:
    assert world.live is not None
    world.live.staged, world.live.published, world.live.code = None, False, world.code


def _live_stage(world: World) -> None:
    live = world.live
    assert live is not None
    batch = live.offsets = live.commits + 1
    done = Table(world).app_version("live")
    if done is not None and done >= batch:
        live.commits = batch  # published before the crash: nothing is written
        return
    by_label: dict[str, Rows] = {}
    for id_, at in FILES[batch]:
        if id_ != LATE:
            by_label.setdefault(at, Counter())[id_, live.code] += 1
    live.staged = tuple(file_of(f"live-{batch}-{live.code}", label, rows) for label, rows in by_label.items())


def _publish(world: World) -> None:
    live = world.live
    assert live is not None
    assert live.staged is not None
    batch = live.offsets
    fact = LiveBatch(
        "model", "live", f"code{live.code}", "query", batch, {}, _end(batch), stateful=False,
        added={file.label: file.rows for file in live.staged},
        late=tuple(at for id_, at in FILES[batch] if id_ == LATE),
    )  # fmt: skip
    publish(Table(world), Change(live.staged, (), fact, AppVersion("live", batch)))
    live.staged, live.published = None, True


def _note(world: World) -> None:
    assert world.live is not None
    world.live.commits, world.live.published = world.live.offsets, False


def _end(batch: int) -> dict[str, Any]:
    return {"events": {"place": 0, "offset": {"logOffset": batch}}}


def _stage(world: World, number: int, labels: tuple[str, ...]) -> None:
    mine, table = world.backfills[number], Table(world)
    coverage = world.coverage()
    pin = pins.pin_now(Project("", {}), PIPELINE, coverage)
    pin = replace(pin, version=max(pin.version, 0))
    read = [int(path[1:]) for path in pin.inputs["events"].read]
    mine.runs += 1
    run = f"b{number}-{mine.runs}"
    stands = tuple(file for file in table.files_at(pin.version).values() if file.label in labels)
    results, staged = {}, []
    for label in labels:
        new = Counter((id_, world.code) for n in read for id_, at in FILES[n] if at == label)
        old: Rows = Counter()
        for file in stands:
            old.update(_rows(file) if file.label == label else {})
        results[label] = IntervalResult(
            new.total(), str(sorted(new.items())), (new - old).total(), (old - new).total()
        )
        if new != old and new:
            staged.append(file_of(run, label, new))
    equal = {label for label, each in results.items() if not (each.added or each.removed)}
    mine.staged = Manifest(
        run, 0, f"code{world.code}", pin.version, dict(pin.source_end), False, labels, tuple(staged),
        tuple(file for file in stands if file.label not in equal), results,
    )  # fmt: skip


def _swap(world: World, number: int) -> None:
    mine = world.backfills[number]
    assert mine.staged is not None
    manifest, mine.staged = mine.staged, None
    try:
        swap.swap_chunk(PIPELINE, Table(world), manifest)
    except CommitConflict:
        return  # refused, as it may be
    mine.done.append(manifest)


def _undo(world: World, number: int) -> None:
    manifest = world.backfills[number].done.pop()
    try:
        swap.undo_chunk(PIPELINE, Table(world), manifest)
    except CommitConflict:
        return  # refused, as it may be


def _raced(world: World, one: Callable[[], None], other: Callable[[], None]) -> None:
    """``other`` happens once, when ``one`` has checked everything and not yet committed."""
    waiting = [other]

    def listen(point: Point) -> None:
        if point is Point.COMMIT_CHECKED and waiting:
            waiting.pop()()

    with listening(listen):
        one()


@contextmanager
def modelled() -> Iterator[None]:
    """The engine reads logs and sources of the model instead of the disk's."""

    def files_read(_checkpoint: str, _place: int, after: int, until: int) -> list[str]:
        return [f"f{n}" for n in range(after + 1, until + 1)]

    def list_files(_source: Any) -> list[inputs.EventFile]:
        return [inputs.EventFile(f"f{n}", 1, n) for n in range(World.now.arrived)]

    def commits_after(_table: str, version: int, _grain: Any) -> list[Commit]:
        return World.now.commits_after(version)

    with (
        patch.object(inputs, "files_read", files_read),
        patch.object(inputs, "list_files", list_files),
        patch.object(inputs, "total_size", lambda _paths: 0),
        patch.object(standing.log, "commits_after", commits_after),
    ):
        yield
