"""Lives a history through with real streams and backfills, and holds every table against the oracle."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.property import oracle, pipelines
from tests.property.histories import File, Folder, History, bad, good
from tests.property.pipelines import CARRIED, KINDS, RULED, TWO_INPUTS
from tidemill.engine import Engine
from tidemill.errors import CommitConflict
from tidemill.ledger.judge import NOT_CLEAN, State
from tidemill.planning.selection import Request

REPAIR = Request(states=NOT_CLEAN)
LEND = Request(states=NOT_CLEAN, include_open=True)


class World:
    """A project in a folder, what has arrived there, and what people did last."""

    def __init__(
        self, root: Path, spark: SparkSession, kinds: tuple[str, ...] = KINDS, per_batch: int = 1
    ) -> None:
        self.root, self.kinds = root, kinds
        self._spark, self._per_batch = spark, per_batch
        self.folder = Folder(root)
        self.folder.add_names(oracle.NAMES)
        self.read: list[File] = []
        self.unwanted: Counter[str] = Counter()
        self.use("a")
        self._last: dict[str, str] = {}
        self._staged: dict[str, str] = {}

    def use(self, code: str) -> None:
        """From now on the pipelines have this code."""
        self.code = code
        project = pipelines.project(self.root, code, self.kinds, self._per_batch)
        self.engine = Engine(project, spark=self._spark)

    def arrive(self, *files: File) -> None:
        """Files come in, and the live streams read all there is."""
        self._add(*files)
        for outcome in self.engine.run(*self.kinds):
            if outcome.error is not None:
                raise outcome.error

    def bootstrap(self, *files: File, newest_first: bool = False, chunk: int | None = None) -> None:
        """Files have come in before any stream has begun; the tables are bootstrapped."""
        self._add(*files)
        for kind in self.kinds:
            found = self.engine.bootstrap(kind, newest_first=newest_first, chunk=chunk)
            assert found.done is None or found.done.refused is None, (kind, found)

    def _add(self, *files: File) -> None:
        for file in files:
            self.folder.add(file)
        self.read += files
        fresh = good(files, "events")
        for kind in RULED:
            self.unwanted[kind] += len(fresh) - len(oracle.kept(self.code, fresh))

    def do(self, deed: str) -> None:
        """One deed to every table."""
        for kind in self.kinds:
            getattr(self, deed)(kind)

    def repair(self, kind: str) -> None:
        """Backfill what is not clean."""
        self._backfill(kind, REPAIR)

    def open(self, kind: str) -> None:
        """Fill in the open intervals, provisionally; where none is open, repair."""
        self._backfill(kind, REPAIR if kind in CARRIED else LEND)

    def _backfill(self, kind: str, request: Request) -> None:
        done = self.engine.backfill(kind, request)
        if done.chunks:
            self._last[kind] = done.run

    def undo(self, kind: str) -> None:
        """Take the last backfill back."""
        if kind in self._last:
            self.engine.undo(self._last[kind])

    def redo(self, kind: str) -> None:
        """Publish the last backfill again."""
        if kind in self._last:
            self._publish(self._last[kind])

    def stage(self, kind: str) -> None:
        """Compute every interval, and keep the result for later."""
        begin = min(judged.interval.start for judged in self.engine.view(kind).judged)
        # A read model has no part that could be named.
        everything = Request(states=frozenset(State)) if kind == "model" else Request(start=begin)
        done = self.engine.backfill(kind, everything, stage_only=True)
        if done.chunks:
            self._staged[kind] = done.run

    def publish(self, kind: str) -> None:
        """Publish what was kept, if it still fits."""
        if kind in self._staged:
            self._publish(self._staged[kind])

    def _publish(self, run: str) -> None:
        try:
            self.engine.publish(run)
        except CommitConflict:
            # What it would replace is gone: refused, as it should be.
            return

    def wanted(self, kind: str) -> oracle.Table:
        """What the table must hold in the end."""
        return oracle.table(kind, self.code, good(self.read, "events"), good(self.read, "others"))

    def held(self, kind: str) -> oracle.Table:
        """What the table holds."""
        return rows_of(self.root / "tables" / kind)

    def states(self, kind: str) -> dict[str, State]:
        """What the ledger says of each interval."""
        return {row.interval: row.state for row in self.engine.coverage(kind).rows}

    def check(self, when: str) -> None:
        """The law, for every table: an interval called clean holds exactly what it must; none goes unmentioned."""
        for kind in self.kinds:
            want, have, states = self.wanted(kind), self.held(kind), self.states(kind)
            for label in sorted(want.keys() | have.keys() | states.keys()):
                state = states.get(label)
                if kind in CARRIED and label > max(states, default=""):
                    continue  # a timer's, that is not due before an event is known beyond
                if state is None or state is State.CLEAN:
                    self._same(kind, label, want, have, f"{when}: {state or 'unknown'}")
            counted = {row.interval: row.rows for row in self.engine.coverage(kind).rows if row.rows}
            assert counted == {label: sum(rows.values()) for label, rows in have.items()}, (when, kind)

    def check_repaired(self, when: str) -> None:
        """After a repair nothing is dirty, stale or missing."""
        for kind in self.kinds:
            states = self.states(kind)
            left = {label: state for label, state in states.items() if state not in {State.CLEAN, State.OPEN}}
            assert not left, (when, kind, left)

    def check_whole(self, when: str) -> None:
        """After open intervals were filled in too, every table holds everything."""
        for kind in self.kinds:
            want, have = self.wanted(kind), self.held(kind)
            left = self.states(kind) if kind in CARRIED else {}
            for label in sorted(want.keys() | have.keys()):
                if kind in CARRIED and left.get(label) in {State.OPEN, None}:
                    continue  # beyond the watermark
                self._same(kind, label, want, have, when)

    def check_counts(self, when: str) -> None:
        """Input = good + quarantined + dropped, by the ledger and by the quarantine table itself."""
        for kind in self.kinds:
            names = ("events", "others") if kind in TWO_INPUTS else ("events",)
            seen = self.engine.view(kind).coverage
            poison = bad(self.read, *names)
            there = sum(len(good(self.read, name)) for name in names)
            unwanted = self.unwanted[kind]
            quarantined = poison + unwanted * (RULED.get(kind) == "quarantine")
            counted = (seen.input_rows, seen.quarantined, seen.dropped)
            assert counted == (there + poison, quarantined, unwanted * (RULED.get(kind) == "drop")), (
                when,
                kind,
            )
            assert sum(row["interval"] is None for row in self.quarantine(kind)) == poison, (when, kind)

    def check_quarantine(self, when: str) -> None:
        """Where everything is as today's code has it, the quarantine is, too."""
        events = good(self.read, "events")
        kept = Counter(e.id for e in oracle.kept(self.code, events))
        for kind in self.kinds:
            found = [row for row in self.quarantine(kind) if row["interval"] is not None]
            held = Counter(json.loads(row["record"])["id"] for row in found)
            keeps = RULED.get(kind) == "quarantine"
            assert held == (Counter(e.id for e in events) - kept if keeps else Counter()), (when, kind)
            assert all(row["reasons"] == [self.code] for row in found), (when, kind)

    def quarantine(self, kind: str) -> list[dict[str, Any]]:
        """The rows that a kind has set aside."""
        path = self.root / "tables" / f"{kind}_quarantine"
        rows: list[dict[str, Any]] = (
            DeltaTable(str(path)).to_pyarrow_table().to_pylist() if path.exists() else []
        )
        return [{"interval": None, **row} for row in rows]

    def _same(self, kind: str, label: str, want: oracle.Table, have: oracle.Table, when: str) -> None:
        wanted, held = want.get(label, Counter()), have.get(label, Counter())
        missing, surplus = wanted - held, held - wanted
        apart = missing + surplus
        assert not apart, f"{when}: {kind} {label}: missing {missing}, surplus {surplus}"


def rows_of(path: Path) -> oracle.Table:
    """A table's rows by interval, without Spark; moments as microseconds."""
    found: oracle.Table = defaultdict(Counter)
    if not path.exists():
        return {}
    table = DeltaTable(str(path))
    rows = table.to_pyarrow_table()
    pattern = oracle.WHOLE
    if table.metadata().partition_columns:
        hourly = pa.types.is_timestamp(rows.schema[-1].type)
        pattern = "%Y-%m-%dT%H" if hourly else "%Y-%m-%d"
    else:
        rows = rows.append_column("label", pa.array([datetime(1, 1, 1)] * rows.num_rows, pa.timestamp("us")))
    labels = rows.column(rows.column_names[-1])
    columns = []
    for name in rows.column_names[:-1]:
        column = rows.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        columns.append(column.to_pylist())
    for at, *row in zip(labels.to_pylist(), *columns, strict=True):
        found[at.strftime(pattern)][tuple(row)] += 1
    return dict(found)


def live_through(history: History, root: Path, spark: SparkSession, kinds: tuple[str, ...] = KINDS) -> None:
    """The whole history, the law after every step; at the end repaired, filled in, and whole."""
    world = World(root, spark, kinds, history.files_per_batch)
    for number, each in enumerate(history.rounds):
        world.use(each.code)
        world.check(f"round {number}, new code")
        world.arrive(*each.files)
        world.check(f"round {number}, live")
        world.check_counts(f"round {number}")
        for deed in each.deeds:
            world.do(deed)
            world.check(f"round {number}, {deed}")
    world.do("repair")
    world.check("repaired")
    world.check_repaired("repaired")
    world.do("open")
    world.check("filled in")
    world.check_whole("filled in")
    world.check_quarantine("filled in")
    # What a model came to, batch by batch and repair by repair, is what all its events give at once.
    if "model" in kinds:
        assert {chunk.outcome for chunk in world.engine.rebuild("model").chunks} <= {"equal"}
        world.check_whole("rebuilt")
