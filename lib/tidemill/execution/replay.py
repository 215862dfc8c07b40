"""Replays events through a pipeline's code of today: into its own table, in one commit, or into a fresh one elsewhere.

A rebuild is a backfill of every interval, as one chunk: readers see the old table or the new one. A replay into another table
reads the same history, whole or up to a moment or a position, and writes a table that no pipeline owns. It takes no lease, and
touches nothing of the pipeline's: not its table, its checkpoint or its quarantine, and nothing is sent to its topic.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from tidemill.config import Project
from tidemill.config.stores import store_path
from tidemill.errors import CommitConflict, PlanError, TidemillError
from tidemill.execution import stores
from tidemill.execution.failures import explained
from tidemill.execution.leftovers import alone, unfinished
from tidemill.execution.pins import pin_now
from tidemill.execution.rules import refuse
from tidemill.execution.session import session_of
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.judge import State
from tidemill.model import DeltaSink, Pipeline, RecordSource, Sink
from tidemill.model.pipeline import IntervalSpec
from tidemill.planning.plan import InputPin, Plan, in_chunks_of
from tidemill.planning.recorded import check_not_replayed
from tidemill.planning.replaying import POSITION, Events, check_apart
from tidemill.planning.selection import Request
from tidemill.quality.watch import Watched
from tidemill.sinks import stage
from tidemill.sinks.rows import stage_rows
from tidemill.sinks.table import AppVersion, Raced, look
from tidemill.sinks.target import open_table
from tidemill.sources.history import history_frames
from tidemill.storage import ObjectPath, place
from tidemill.transforms.apply import transform
from tidemill.view import View

if TYPE_CHECKING:
    from tidemill.engine import Engine

MOST_INTERVALS = 400
"""A commit names each of its intervals: of a table that has more, several commits make all anew."""
_WHOLE = {"byte": "tinyint", "short": "smallint", "integer": "int", "long": "bigint"}
"""Types of whole numbers, as a table's log names them, and Spark."""
EVERYTHING = Request(states=frozenset(State))


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a replay into another table would read, and where it would write."""

    pipeline: str
    into: str
    mode: str
    events: str
    inputs: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay into another table wrote: ``rows``, at ``version`` of the table ``into``; ``left_out``: by rules.

    ``speed``: how many times as fast as the events happened, of a paced one; and how far it was behind at most.
    """

    pipeline: str
    run: str
    into: str
    events: str
    inputs: Mapping[str, str]
    rows: int
    left_out: int
    version: int
    seconds: float
    speed: float | None = None
    behind_seconds: float | None = None
    stopped: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def rebuild_plan(plan: Plan) -> Plan:
    """The plan of a rebuild: every interval in one commit, where a commit can name them."""
    return in_chunks_of(plan, min(max(len(plan.intervals), 1), MOST_INTERVALS))


def foresee(engine: Engine, name: str, into: str, events: Events) -> Foreseen:
    """See :meth:`tidemill.Engine.foresee_replay`."""
    view, path = engine.view(name), target_path(engine.project, name, into)
    pins = pins_of(engine.project, view)
    check_positions(view.pipeline, pins, events)
    return Foreseen(
        name, path, view.pipeline.table.mode, events.said, {key: each.what for key, each in pins.items()}
    )


def replay(engine: Engine, name: str, into: str, events: Events, say: Callable[[str], None]) -> Replayed:
    """See :meth:`tidemill.Engine.replay`."""
    began = time.monotonic()
    view, path, run = engine.view(name), target_path(engine.project, name, into), engine.new_run()
    pipeline, target = view.pipeline, target_of(view.pipeline, path)
    pins = pins_of(engine.project, view)
    check_positions(pipeline, pins, events)
    stores.reach(engine.spark, Project(engine.project.root, {name: target}, engine.project.stores))
    if unfinished(path):
        with alone(path, f"replay of {name}", engine.clock):
            pass  # what one at a pace has left, when it died
    session = session_of(engine.spark, pipeline)
    said = {key: each.what for key, each in pins.items()}
    say(f"{name}: replay {events.said} of {'; '.join(said.values())} into {path}")
    try:
        watched = Watched.of(pipeline)
        frames, placed = event_frames(session, pipeline, pins, events, watched)
        frame = transform(session, pipeline, frames, engine.project.root)
        stage.check_columns(frame, target)
        table = open_table(frame, target)
        staged = stage_rows(table, watched.output(frame), target)
        files, aside = stage.parted(staged)
        table.discard(aside)
        try:
            placed.check()
            refuse(pipeline, watched.verdicts(), "the replay")
        except TidemillError:
            table.discard(files)
            raise
    except Exception as error:
        raise explained(error, pipeline) from error
    note = {"replayed": name, "run": run, "fingerprint": view.fingerprint, "events": events.said}
    try:
        table.commit(
            files, (), json.dumps(note), AppVersion(f"tidemill/replay/{run}", 1), int(time.time() * 1000)
        )
    except Raced as raced:
        raise CommitConflict(
            f"{path}: another writer came to it", next_step="replay into a folder of its own", path=path
        ) from raced
    rows, seconds = sum(file.rows for file in files), time.monotonic() - began
    left_out = sum(file.rows for file in aside)
    return Replayed(name, run, path, events.said, said, rows, left_out, table.version, seconds)


def target_path(project: Project, name: str, into: str) -> str:
    """The path that ``into`` means, from where the process is. Raises :class:`PlanError` where something stands there, and for an
    event store, which is not replayed.
    """
    check_not_replayed(project.pipeline(name))
    if into.startswith(("s3://", "s3a://")):
        path = store_path(into)
    elif "://" in into:
        path = str(place(into))
    else:
        path = os.path.abspath(Path(into).expanduser())  # noqa: PTH100  resolve() would follow links that others do not
    check_apart(project, project.pipeline(name), path)
    if _begun(path) or unfinished(path):
        return path
    at = place(path)
    # A store has no empty folders to speak of; what is there is a table, or nothing that a table would disturb.
    there = log.exists(path) if isinstance(at, ObjectPath) else at.exists()
    if there:
        raise PlanError(
            f"{path} is there already",
            next_step="replay into a folder that is not there yet, or remove this one",
            path=path,
        )
    return path


def _begun(path: str) -> bool:
    """Whether a replay that died has made the table, and nothing else: it never had a row."""
    return log.last_version(path) == 0 and not look(path).file_uris() if log.exists(path) else False


def target_of(pipeline: Pipeline, path: str) -> Pipeline:
    """The pipeline with its rows going to another table, and nowhere else."""
    table = pipeline.table
    sink = DeltaSink(path=path, mode=table.mode, key=table.key, order_by=table.order_by)
    return pipeline.model_copy(update={"sink": Sink(delta=sink)})


def pins_of(project: Project, view: View) -> Mapping[str, InputPin]:
    """All there is: files and tables as they are now, a broker's records as far as the live stream has read them."""
    of_brokers = any(isinstance(each.source, RecordSource) for each in view.pipeline.inputs.values())
    return pin_now(project, view.pipeline, view.coverage if of_brokers else Coverage()).inputs


@dataclass(frozen=True, slots=True)
class Placed:
    """The inputs whose events are chosen by a position; what is observed of them is there once the frames have run."""

    pipeline: str
    columns: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, Observation] = field(default_factory=dict)

    def check(self) -> None:
        """Raise :class:`PlanError` where events had no position: nothing says whether they are among those asked for."""
        for name, observation in self.seen.items():
            row = observation._jo.getRow()  # type: ignore[union-attr]  # noqa: SLF001  `get` fails on none
            without = int(observation.get["without"]) if row.length() else 0
            if without:
                raise PlanError(
                    f"{self.pipeline}: {without:,} event(s) of {name} have no {self.columns[name]}, and nothing says whether "
                    "they are before that position",
                    next_step="name a column that every event has: --position NAME; or give a moment",
                    input=name,
                )


def event_frames(
    spark: SparkSession, pipeline: Pipeline, pins: Mapping[str, InputPin], events: Events, watched: Watched
) -> tuple[dict[str, DataFrame], Placed]:
    """The pipeline's inputs with these events alone.

    Raises :class:`PlanError` where a position is asked for, and an input has none. That single events have none is only known
    when the frames have run: :meth:`Placed.check`.
    """
    whole = pipeline.model_copy(update={"interval": IntervalSpec(grain=Grain.ALL)})
    frames = history_frames(
        spark, whole, {name: each.read for name, each in pins.items()}, [events.range], watched
    )
    columns, seen = dict[str, str](), dict[str, Observation]()
    for name in pipeline.moving:
        moment = F.col(f"`{pipeline.event_time_of(name).column}`")
        if events.start is not None:
            frames[name] = frames[name].where(moment >= F.lit(events.start))
        if events.end is not None:
            frames[name] = frames[name].where(moment < F.lit(events.end))
        if events.position is not None:
            columns[name], seen[name] = _position(pipeline, name, frames[name], events), Observation()
            column = F.col(f"`{columns[name]}`")
            watch = F.count(F.when(column.isNull(), 1)).alias("without")
            frames[name] = frames[name].observe(seen[name], watch).where(column <= F.lit(events.position))
    return frames, Placed(pipeline.name, columns, seen)


def check_positions(pipeline: Pipeline, pins: Mapping[str, InputPin], events: Events) -> None:
    """Raise as :func:`event_frames` does of a position, where the log of a table that is read tells already. No JVM."""
    if events.position is None:
        return
    for name in pipeline.moving:
        source = pipeline.inputs[name].delta
        if source is None or not log.exists(source.path):
            continue
        fields = look(source.path, pins[name].read).schema().fields
        kinds = {each.name: getattr(each.type, "type", "nested") for each in fields}
        _whole_numbers(pipeline, name, {key: _WHOLE.get(kind, kind) for key, kind in kinds.items()}, events)


def _position(pipeline: Pipeline, name: str, frame: DataFrame, events: Events) -> str:
    kinds = {each.name: each.dataType.simpleString() for each in frame.schema.fields}
    return _whole_numbers(pipeline, name, kinds, events)


def _whole_numbers(pipeline: Pipeline, name: str, kinds: Mapping[str, str], events: Events) -> str:
    """The column of positions among an input's, given with their types."""
    wanted = events.position_column or POSITION
    found = next((each for each in kinds if each.lower() == wanted.lower()), None)
    if found is None or kinds[found] not in _WHOLE.values():
        what = f"it has no column {wanted!r}" if found is None else f"{wanted!r} is {kinds[found]}"
        raise PlanError(
            f"{pipeline.name}: {name} has no position: {what}",
            next_step="name a column of whole numbers that grow from event to event: --position NAME; or give a moment; "
            f"its columns: {', '.join(kinds)}",
            input=name,
        )
    return found
