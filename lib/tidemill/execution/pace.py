"""A replay at a pace: past events come again, so many times as fast as they happened, and a live stream takes them in.

The events are sorted by event time once, by Spark, and then handed to the stream as files, each with what is due by now. The
stream is the pipeline's own code over those files, in batches as small as the pace makes them, writing to a table of its own:
what it can carry is what the pipeline could. When all is read, checkpoint and files go, and the table stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.config import Project
from tidemill.errors import PlanError, TidemillError
from tidemill.execution.failures import explained
from tidemill.execution.leftovers import FEED, READ, SORTED, STATE, alone
from tidemill.execution.replay import Replayed, check_positions, event_frames, pins_of, target_of, target_path
from tidemill.execution.rules import refuse
from tidemill.execution.session import session_of
from tidemill.ledger import log
from tidemill.model import FilesSource, Input, Pipeline, Quality, Trigger
from tidemill.planning.plan import InputPin
from tidemill.planning.replaying import Events
from tidemill.quality.watch import Watched
from tidemill.sinks.table import look
from tidemill.storage import on_a_store

if TYPE_CHECKING:
    from tidemill.engine import Engine

TICK_SECONDS = 1.0
_ROWS = 65_536  # in memory at a time
_TELL_SECONDS = 10.0


def replay_paced(
    engine: Engine,
    name: str,
    into: str,
    events: Events,
    speed: float,
    stop: threading.Event | None,
    say: Callable[[str], None],
) -> Replayed:
    """See :meth:`tidemill.Engine.replay`."""
    view, path, run = engine.view(name), target_path(engine.project, name, into), engine.new_run()
    moving = _one_input(view.pipeline)
    if on_a_store(path):
        raise PlanError(
            f"{path} is on a store, and a paced replay hands files to a stream beside its table",
            next_step="replay into a folder of a file system, or without --speed",
            path=path,
        )
    pins = pins_of(engine.project, view)
    check_positions(view.pipeline, pins, events)
    said = {key: each.what for key, each in pins.items()}
    with alone(path, f"replay of {name}", engine.clock):
        _check_place(path)
        say(f"{name}: sort {events.said} of {said[moving]}")
        try:
            fed, before = _sort(engine, view.pipeline, path, pins, events)
            state, column = Path(path) / STATE, view.pipeline.event_time_of(moving).column
            feeder = Feeder(state / SORTED, state / FEED, column, speed, stop or threading.Event(), say)
            left_out = before + _run(engine, fed, feeder)
        except TidemillError:
            raise
        except Exception as error:
            raise explained(error, view.pipeline) from error
    there = log.exists(path)
    return Replayed(
        pipeline=name,
        run=run,
        into=path,
        events=events.said,
        inputs=said,
        rows=int(look(path).to_pyarrow_dataset().count_rows()) if there else 0,
        left_out=left_out,
        version=(log.last_version(path) or 0) if there else -1,
        seconds=feeder.seconds,
        speed=feeder.reached,
        behind_seconds=feeder.behind,
        stopped=not feeder.finished,
    )


def _one_input(pipeline: Pipeline) -> str:
    if len(pipeline.moving) != 1:
        raise PlanError(
            f"{pipeline.name} has several inputs, and events are paced one input at a time",
            next_step="replay it without --speed",
            pipeline=pipeline.name,
        )
    return pipeline.moving[0]


def _check_place(path: str) -> None:
    if Path(f"{path}_quarantine").exists():
        raise PlanError(f"{path}_quarantine is there already", next_step="choose another path, or remove it")


def _sort(
    engine: Engine, pipeline: Pipeline, path: str, pins: Mapping[str, InputPin], events: Events
) -> tuple[Pipeline, int]:
    """Write the events in the order of their times; give the pipeline that reads them as they are handed on, and how many
    rules have left out by then.

    Rules are the stream's to judge by, and every event that can be read comes again. But no field of a person is written in
    clear: what an input seals is judged before that, as everywhere, and what it opens is opened by the stream.
    """
    (moving,) = pipeline.moving
    each, suite = pipeline.inputs[moving], pipeline.quality.inputs.get(moving)
    seals = each.personal is not None and bool(each.personal.seal)
    as_read = each if seals else each.model_copy(update={"personal": None})
    read = pipeline.model_copy(update={"inputs": {**pipeline.inputs, moving: as_read}})
    judged = Quality(inputs={moving: suite} if seals and suite else {})
    watched = Watched.of(pipeline.model_copy(update={"quality": judged}))
    session, state = session_of(engine.spark, pipeline), Path(path) / STATE
    session.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    frames, placed = event_frames(session, read, pins, events, watched)
    frame = frames[moving]
    if seals or events.position is not None:
        # To sort is to run what is sorted twice, the first time to see where to part it: what is counted is counted before.
        frame.write.parquet(str(state / READ))
        frame = session.read.schema(frame.schema).parquet(str(state / READ))
    frame.orderBy(f"`{pipeline.event_time_of(moving).column}`").write.parquet(str(state / SORTED))
    placed.check()
    refuse(pipeline, watched.verdicts(), "the replay")
    left = watched.left_out(moving)
    (state / FEED).mkdir(parents=True)
    fed = _fed(target_of(pipeline, path), moving, str(state / FEED), frame.schema.toDDL(), judged=seals)
    return fed, left.quarantined + left.dropped


def _fed(target: Pipeline, moving: str, feed: str, schema: str, *, judged: bool) -> Pipeline:
    """The pipeline, reading one input from files that come at the pace; ``judged``, and sealed, before."""
    source = FilesSource.model_validate({"path": feed, "format": "parquet", "schema": schema})
    personal = None if judged else target.inputs[moving].personal
    each = Input(files=source, event_time=target.event_time_of(moving), personal=personal)
    left = {name: suite for name, suite in target.quality.inputs.items() if name != moving or not judged}
    quality = target.quality.model_copy(update={"inputs": left})
    return target.model_copy(update={"inputs": {**target.inputs, moving: each}, "quality": quality})


def _run(engine: Engine, fed: Pipeline, feeder: Feeder) -> int:
    """Run the stream while the feeder feeds it, and to the end of what was fed; give how many rows its rules left out."""
    # The project of the stream alone; its code is found where the pipeline's is.
    stream = type(engine)(
        Project(engine.project.root, {fed.name: fed}, engine.project.stores),
        spark=engine.spark,
        clock=engine.clock,
    )
    feeder.start()
    try:
        _raise_errors(
            stream.run(
                fed.name, trigger=Trigger(processing_time=timedelta(seconds=TICK_SECONDS)), stop=feeder.halt
            )
        )
    finally:
        feeder.halt.set()
        feeder.join()
    if feeder.error is not None:
        raise feeder.error
    if feeder.finished:
        interrupted = threading.Event()
        _raise_errors(stream.run(fed.name, trigger=Trigger(available_now=True), stop=interrupted))
        feeder.finished = not interrupted.is_set()
    feeder.done()
    coverage = stream.view(fed.name).coverage
    return coverage.quarantined + coverage.dropped


def _raise_errors(outcomes: Any) -> None:
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error


@dataclass(slots=True)
class Feeder:
    """Hands sorted events on as files, each when it is due; in a thread of its own.

    ``halt``: set by others, it ends before the next file; it sets it itself when the last one is out, and is ``finished``.
    """

    sorted: Path
    feed: Path
    column: str
    speed: float
    halt: threading.Event
    say: Callable[[str], None] = lambda _line: None
    finished: bool = False
    error: Exception | None = None
    seconds: float = 0.0
    behind: float = 0.0
    span: float = 0.0
    _began: float = 0.0
    _ended: float = 0.0
    _files: int = 0
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begin in a thread."""
        self._thread = threading.Thread(target=self._work, daemon=True, name="replay-feeder")
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread, which ends soon after ``halt``."""
        if self._thread is not None:
            self._thread.join()

    def done(self) -> None:
        """All that was handed on is in the table: note how long it took, and how far behind the last event was."""
        now = time.monotonic()
        self.seconds = now - self._began if self._began else 0.0
        self.behind = now - self._ended if self._ended else 0.0

    @property
    def reached(self) -> float:
        """How many times as fast as they happened the events came into the table."""
        return self.span / self.seconds if self.seconds else 0.0

    def _work(self) -> None:
        try:
            self.finished = self._feed_all()
        except Exception as error:  # noqa: BLE001  # it is the run's to raise, in its own thread
            self.error = error
        self._ended = time.monotonic()
        self.halt.set()

    def _feed_all(self) -> bool:
        first, told = None, time.monotonic()
        for rows, times in self._batches():
            first = int(times[0]) if first is None else first
            start = 0
            while start < len(times):
                now = time.monotonic()
                self._began = self._began or now
                due = first + int((now - self._began) * self.speed * 1_000_000)
                end = int(times.searchsorted(due, side="right"))
                if end > start:
                    self._hand_on(rows.slice(start, end - start))
                    self.span, start = (int(times[end - 1]) - first) / 1_000_000, end
                if now - told >= _TELL_SECONDS:
                    told = now
                    self.say(
                        f"replayed {self.span / 3600:,.1f} hours of events in {now - self._began:,.0f} s"
                    )
                if start < len(times) and self.halt.wait(TICK_SECONDS):
                    return False
        return not self.halt.is_set()

    def _batches(self) -> Iterator[tuple[pa.Table, Any]]:
        for path in sorted_files(self.sorted):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_ROWS):
                    rows = pa.Table.from_batches([batch])
                    moments = rows.column(self.column).cast(pa.timestamp("us"))
                    yield rows, moments.cast(pa.int64()).to_numpy()

    def _hand_on(self, rows: pa.Table) -> None:
        name = f"{self._files:08}.parquet"
        pq.write_table(rows, self.feed / f".{name}")
        (self.feed / f".{name}").rename(self.feed / name)
        self._files += 1


def sorted_files(folder: Path) -> list[Path]:
    """The files of a sorted frame, in its order."""
    return sorted(folder.glob("part-*.parquet"))
