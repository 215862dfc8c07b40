"""What the fire burns: pipelines over one folder of sensor readings, and an oracle that knows only the events.

``readings`` keeps no state; ``hourly`` counts by window and sensor; ``changes`` is an ordered fold with a timer, and so is
``totals``, which never forgets and keeps its states at interval ends; ``tank`` is an event store, see :mod:`.tank`. Each event has an
id of its own. The code has a factor, so that rows tell which code wrote them.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from tests.fire import tank
from tests.fire.matrix import Tally
from tests.fire.tank import STORE
from tidemill import Engine
from tidemill.config import load_project
from tidemill.ledger.judge import NOT_CLEAN
from tidemill.planning.selection import Request
from tidemill.testing import MemorySource, Point, Process, breaches, published
from tidemill.testing.law import files_of
from tidemill.testing.source import Event

BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
PER_FILE = 20
NAMES = ("readings", "hourly")
WITH_FOLD = (*NAMES, "changes")
ENDLESS = "totals"
"""Its open intervals cannot be shown, and its stream may have to begin anew."""
UNWANTED = '{"id": 4, "sensor": "x", "at": "2024-03-01T05:00:00Z", "v": 1}'
"""Readable, and a rule sets it aside."""
POISON = (
    '{"id": 1, "at": "2024-03',
    '{"id": 2, "sensor": "a", "v": 1}',
    '{"id": 3, "at": "today", "v": 1}',
    UNWANTED,
)
_RULES = """
name: sensors
expectations:
  - type: expect_column_values_to_be_in_set
    kwargs: {column: sensor, value_set: [a, b, c]}
    meta: {action: quarantine}
"""
_COMMON = """
source:
  files: {path: data/in, format: json, schema: "id BIGINT, sensor STRING, at TIMESTAMP, v BIGINT", max_files_per_batch: 1}
quality: {inputs: {events: sensors}}
gate: {max_removed: null}
chunk: 1
trigger: {available_now: true}
"""
_PIPELINES = {
    "readings": """
event_time: {column: at}
interval: day
transform: mill_code:readings
sink: {delta: {path: data/readings}}
""",
    "hourly": """
event_time: {column: at, watermark: 2 hours}
interval: {grain: day, column: start}
transform: mill_code:hourly
sink: {delta: {path: data/hourly}}
""",
    "changes": """
event_time: {column: at, watermark: 2 hours}
interval: day
transform: mill_code:changes
lookback: 2h
sink: {delta: {path: data/changes}}
""",
    "totals": """
event_time: {column: at, watermark: 2 hours}
interval: day
transform: mill_code:totals
sink: {delta: {path: data/totals}}
""",
    STORE: tank.PIPELINE,
}
_CODE = """
from datetime import datetime, timedelta
from typing import NamedTuple

from pyspark.sql import functions as F

from tidemill.folds import Fold, fold

FACTOR = {factor}


def readings(events):
    return events.select("id", "sensor", "at", (F.col("v") * FACTOR).alias("v"))


def hourly(events):
    window = F.window("at", "1 hour").alias("w")
    counted = events.groupBy(window, "sensor").agg(F.count("*").alias("n"), F.sum("v").alias("total"))
    return counted.select(F.col("w.start").alias("start"), "sensor", "n", (F.col("total") * FACTOR).alias("total"))


class Last(NamedTuple):
    at: datetime | None
    v: int | None
    silent: bool


class Changes(Fold[Last]):
    key, time, order_by = ("sensor",), "at", ("id",)
    state = "at TIMESTAMP, v BIGINT, silent BOOLEAN"
    output = "id BIGINT, sensor STRING, at TIMESTAMP, change BIGINT"
    horizon = "2 hours"

    def zero(self):
        return Last(None, None, False)

    def step(self, state, row):
        change = None if state.v is None else (row.v - state.v) * FACTOR
        return Last(row.at, row.v, False), [(row.id, row.sensor, row.at, change)]

    def due(self, state):
        return None if state.at is None or state.silent else state.at + timedelta(minutes=90)

    def on_time(self, key, state, time):
        return state._replace(silent=True), [(None, key[0], time, state.v * FACTOR)]


def changes(events):
    return fold(events.select("id", "sensor", "at", "v"), Changes())


class Totals(Changes):
    output = "id BIGINT, sensor STRING, at TIMESTAMP, total BIGINT"
    horizon = None

    def zero(self):
        return Last(None, 0, False)

    def step(self, state, row):
        total = state.v + row.v
        return Last(row.at, total, False), [(row.id, row.sensor, row.at, total * FACTOR)]


def totals(events):
    return fold(events.select("id", "sensor", "at", "v"), Totals())
"""
_SILENT, _FORGOTTEN = timedelta(minutes=90), timedelta(hours=2)


class Mill:
    """A project in a folder, its events so far, and the processes that were started on it."""

    def __init__(
        self,
        folder: Path,
        spark: SparkSession,
        seed: int,
        tally: Tally,
        *,
        names: Sequence[str] = NAMES,
        without: str | None = None,
        spread: timedelta = timedelta(hours=7),
        disk: Callable[[Path], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.folder, self.names, self.tally = folder, tuple(names), tally
        self.chance = random.Random(seed)
        self._spark, self._without, self._spread = spark, without, spread
        # Not at midnight: an event may lie before the clock, and is to lie in the same day at first.
        self._clock, self._ids = BEGIN + timedelta(hours=2), 0
        (folder / "conf/pipelines").mkdir(parents=True)
        (folder / "conf/suites").mkdir()
        (folder / "conf/suites/sensors.yml").write_text(_RULES)
        for name in self.names:
            (folder / f"conf/pipelines/{name}.yml").write_text(f"name: {name}{_COMMON}{_PIPELINES[name]}")
        self.processes: list[Process] = []
        self._disk = ExitStack()
        if disk is not None:
            self._disk.enter_context(disk(folder / "data"))
        self.use(1)
        self.source = MemorySource(next(iter(self.engine.project.pipeline(self.names[0]).inputs.values())))
        (folder / "data/in").mkdir(parents=True, exist_ok=True)

    def use(self, factor: int) -> None:
        """From now on the code has this factor."""
        self.factor = factor
        shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)
        (self.folder / "mill_code.py").write_text(_CODE.format(factor=factor) + tank.ASKED)
        (self.folder / "mill_domain.py").write_text(tank.DOMAIN.format(factor=factor))
        self.engine = Engine(load_project(self.folder), spark=self._spark)

    # -- what arrives

    def arrive(
        self,
        files: int = 1,
        *,
        poison: int = 0,
        back: timedelta = timedelta(hours=1),
        spread: timedelta | None = None,
    ) -> None:
        """Files of events come in, each at most ``spread`` after the one before; an event is at most ``back`` old then.

        ``poison``: bad records in a file of their own after each.
        """
        for _ in range(files):
            self._clock += self.chance.random() * (self._spread if spread is None else spread)
            self.source.add(*[self.event(self._clock - self.chance.random() * back) for _ in range(PER_FILE)])
            if poison:
                self.source.add_raw(*[self.chance.choice(POISON) for _ in range(poison)])

    def event(self, at: datetime) -> Event:
        """A new event at ``at``."""
        self._ids += 1
        return {
            "id": self._ids,
            "sensor": self.chance.choice("abc"),
            "at": at,
            "v": self.chance.randint(1, 9),
        }

    def pass_time(self, by: timedelta = timedelta(days=3)) -> None:
        """A last event, so much later that the watermark passes all others."""
        self._clock += by
        self.source.add(self.event(self._clock))

    # -- what is done

    def process(self, verb: str, *names: str, **options: Any) -> Process:
        """A verb in a process of its own, without the guard that this mill is without."""
        self.tally.runs += 1
        if self._without:
            options["without"] = [self._without]
        process = Process(self.folder, verb, *(names or self.names), **options)
        self.processes.append(process)
        return process

    def end(self) -> None:
        """No process of this mill is left."""
        for process in self.processes:
            process.kill()
        self._disk.close()

    def killed(self, process: Process) -> bool:
        """Wait for a process to kill itself; False when it ended well instead."""
        killed = process.wait_killed()
        self.tally.kills += killed
        self.tally.replayed += PER_FILE * sum(self._half_done(name) for name in self.names) if killed else 0
        return killed

    def _half_done(self, name: str) -> bool:
        checkpoint = Path(self.engine.project.pipeline(name).table.state_path) / "checkpoint"
        batches = [int(p.name) for p in (checkpoint / "offsets").glob("[0-9]*")]
        return bool(batches) and not (checkpoint / "commits" / str(max(batches))).exists()

    def versions(self) -> dict[str, int]:
        """How far each table's log goes."""
        return {name: self.engine.view(name).coverage.version for name in self.names}

    def unread(self, name: str) -> int:
        """How many files a live stream has yet to publish."""
        return len(self.source.paths) - len(files_of(self.engine.view(name), "events"))

    def run(self) -> None:
        """Live runs over all there is, in this process."""
        self.tally.runs += 1
        for outcome in self.engine.run(*self.names):
            if outcome.error is not None:
                raise outcome.error

    def restart(self) -> None:
        """A process of its own reads all there is, unaided; how long until it published is noted."""
        before, began = self.versions(), time.monotonic()
        process = self.process("run")
        process.wait_for(lambda: self.versions() != before, "a commit")
        self.tally.recovered(time.monotonic() - began)
        process.finish()

    def repair(self, name: str) -> None:
        """Backfill what is not clean, then what is still open, so that everything is there."""
        requests = (Request(states=NOT_CLEAN), Request(states=NOT_CLEAN, include_open=True))
        for request in requests[:1] if name == ENDLESS else requests:
            self.tally.runs += 1
            done = self.engine.backfill(name, request)
            assert done.refused is None, done.refused
            for chunk in done.chunks:
                self.tally.retried(chunk.retries)

    # -- what must hold

    def check(self, *, whole: bool = False) -> None:
        """The law, for every table; what breaks it is counted."""
        for name in self.names:
            view = self.engine.view(name)
            events = self.source.events if whole else published(view, {"events": self.source})["events"]
            if name == STORE:
                wrong = tank.wrong(self.folder, events if view.coverage.live else [], whole=whole)
                assert not wrong, "\n".join(wrong)
                continue
            found = breaches(view, oracle(name, events, self.factor), whole=whole and name != ENDLESS)
            self.tally.lost += sum(len(each.lost) for each in found)
            self.tally.doubled += sum(len(each.surplus) for each in found)
            assert not found, f"{name}: " + "\n".join(map(str, found))

    def check_quarantine(self) -> None:
        """Every record that is not to be taken in is in each quarantine once, and each ledger counts it."""
        from deltalake import DeltaTable

        for name in self.names:
            path = self.folder / f"data/{name}_quarantine"
            kept = DeltaTable(str(path)).to_pyarrow_table().num_rows if path.exists() else 0
            counted = self.engine.view(name).coverage.quarantined
            given = len(self.source.poison)
            self.tally.lost += max(0, given - kept)
            self.tally.doubled += max(0, kept - given)
            assert (kept, counted) == (given, given), f"{name}: {kept} kept, {counted} counted of {given}"

    def settle(self) -> None:
        """Everything is read and repaired, and all of it must be there."""
        self.run()
        self.check()
        self.check_quarantine()
        for name in self.names:
            if name != STORE:
                self.repair(name)
        self.check(whole=True)
        if ENDLESS in self.names:
            self.begin_anew()

    def begin_anew(self) -> None:
        """What the endless fold's stream adds after a restart is clean, whatever it had held; and all of it is."""
        self.engine.restart(ENDLESS)
        self.check()
        self.arrive(1, back=timedelta(minutes=30))
        self.pass_time()
        self.run()
        self.check()
        assert not [each for each in self.engine.view(ENDLESS).judged if each.state in NOT_CLEAN]


def oracle(name: str, events: Iterable[Event], factor: int) -> Iterable[dict[str, Any]]:
    """What the table of ``name`` holds when code of this factor has seen these events once, in order."""
    if name == "readings":
        return [{**event, "v": event["v"] * factor} for event in events]
    if name == "changes":
        return _changes(events, factor)
    if name == ENDLESS:
        return _totals(events, factor)
    windows: dict[tuple[datetime, str], list[int]] = defaultdict(list)
    for event in events:
        windows[event["at"].replace(minute=0, second=0, microsecond=0), event["sensor"]].append(event["v"])
    return [
        {"start": start, "sensor": sensor, "n": len(values), "total": sum(values) * factor}
        for (start, sensor), values in windows.items()
    ]


def _totals(events: Iterable[Event], factor: int) -> Iterable[dict[str, Any]]:
    """Each sensor's sum after each event, and again where it has been silent for so long."""
    of: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event["at"], event["id"])):
        of[event["sensor"]].append(event)
    for sensor, mine in of.items():
        total = 0
        for event, after in zip(mine, [*mine[1:], None], strict=True):
            total += event["v"]
            yield {"id": event["id"], "sensor": sensor, "at": event["at"], "total": total * factor}
            if after is None or after["at"] - event["at"] >= _SILENT:
                yield {"id": None, "sensor": sensor, "at": event["at"] + _SILENT, "total": total * factor}


def _changes(events: Iterable[Event], factor: int) -> Iterable[dict[str, Any]]:
    """Each sensor's changes from event to event, and where it had been silent for so long; the last silence, too."""
    of: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        of[event["sensor"]].append(event)
    for sensor, mine in of.items():
        mine.sort(key=lambda event: (event["at"], event["id"]))
        for before, event in zip([None, *mine], [*mine, None], strict=True):
            gap = event["at"] - before["at"] if before and event else None
            if before and (gap is None or gap >= _SILENT):
                at, left = before["at"] + _SILENT, before["v"] * factor
                yield {"id": None, "sensor": sensor, "at": at, "change": left}
            if event:
                change = (
                    (event["v"] - before["v"]) * factor
                    if before and gap is not None and gap < _FORGOTTEN
                    else None
                )
                yield {"id": event["id"], "sensor": sensor, "at": event["at"], "change": change}


LIVE_POINTS = (
    Point.OFFSETS_WRITTEN,
    Point.FILES_STAGED,
    Point.BAD_ROWS_SET_ASIDE,
    Point.COMMIT_CHECKED,
    Point.COMMIT_WRITTEN,
    Point.COMMITTED,
    Point.BATCH_PUBLISHED,
    Point.NOT_YET_IN_PLACE,
)
RESTART_POINTS = (
    Point.CHUNK_STAGED,
    Point.MANIFEST_SAVED,
    Point.SEED_SOWN,
    Point.COMMIT_CHECKED,
    Point.COMMITTED,
)
