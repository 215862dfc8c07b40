"""Runs the live streams of several pipelines in one session, each by its own trigger."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType
from typing import Any

from cronsim import CronSim
from pyspark.sql import SparkSession

from tidemill.clock import Clock
from tidemill.config import Project
from tidemill.display import words
from tidemill.display.runs import outcomes_html
from tidemill.errors import TidemillError, UnreadableFile
from tidemill.execution import unreadable
from tidemill.execution.failures import explained
from tidemill.execution.live import LiveRun
from tidemill.execution.ready import Setting
from tidemill.execution.sagas import check_appended, make_inputs
from tidemill.execution.same_keys import check_keys
from tidemill.execution.survey import Survey
from tidemill.execution.taken import Watch
from tidemill.ledger import index
from tidemill.ledger.lease import Lease
from tidemill.model import Pipeline, Trigger
from tidemill.view import look, shape_of

_POLL_SECONDS = 0.1
_TELL_EVERY = timedelta(seconds=10)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the live run of one pipeline ended.

    ``astray``: why the states that its stream holds are not those of its table, see :attr:`tidemill.view.View.astray`.
    """

    pipeline: str
    batches: int
    error: TidemillError | None = None
    astray: str | None = None


class Outcomes(tuple[Outcome, ...]):
    """How the live runs of several pipelines ended."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return outcomes_html(self)


class _Supervised:
    """One pipeline between its ticks: waiting, running, or done."""

    def __init__(
        self, spark: SparkSession, pipeline: Pipeline, setting: Setting, trigger: Trigger, say: Say
    ) -> None:
        self.pipeline = pipeline
        self.error: TidemillError | None = None
        self.batches = 0
        self.done = False
        self._spark, self._setting, self._trigger, self._say = spark, setting, trigger, say
        self._lease: Lease | None = None
        self.run: LiveRun | None = None
        self._next: datetime | None = None
        self._again = False
        self._told = (datetime.min.replace(tzinfo=UTC), 0)

    def hold(self, lease: Lease) -> None:
        self._lease = lease

    def step(self, now: datetime, *, stopping: bool) -> None:
        """Start what is due, end what has ended; never waits."""
        if self.done:
            return
        if self.run is None:
            self._start_when_due(now, stopping=stopping)
            return
        if stopping or self._lost:
            # A stream without new input would never come to where it asks for its lease.
            self.run.request_stop()
            self.run.poll_stop()
        if not self.run.active:
            self._end(stopping=stopping)
        elif self.run.batches > self._told[1] and now - self._told[0] >= _TELL_EVERY:
            self._told = now, self.run.batches
            self._say(f"{self.pipeline.name}: {words.count(self.run.batches, 'batch')} published so far")

    @property
    def _lost(self) -> bool:
        return self._lease is not None and self._lease.lost

    def _start_when_due(self, now: datetime, *, stopping: bool) -> None:
        if stopping:
            self.done = True
            return
        if self._trigger.cron is not None and not self._again:
            if self._next is None:
                self._next = next(CronSim(self._trigger.cron, now))
                self._say(f"{self.pipeline.name}: next run at {self._next:%Y-%m-%d %H:%M} UTC")
            if now < self._next:
                return
            self._next = None
        self._again = False
        assert self._lease is not None  # noqa: S101  # hold() came first
        every = self._trigger.processing_time
        run = LiveRun(self._spark, self.pipeline, self._setting, self._lease)
        try:
            self._lease.check()
            check_keys(self.pipeline)
            run.start(
                available_now=every is None,
                every_ms=None if every is None else int(every.total_seconds() * 1000),
            )
        except Exception as error:  # noqa: BLE001  # one pipeline's failure is not the others'
            self._fail(explained(error, self.pipeline))
            return
        self.run, self._told = run, (now, 0)

    def _end(self, *, stopping: bool) -> None:
        assert self.run is not None  # noqa: S101  # step() saw to it
        run, self.run = self.run, None
        self.batches += run.batches
        if run.too_great:
            self._say(
                f"{self.pipeline.name}: {words.count(run.too_great, 'row')} too great for the topic; in {self.pipeline.unsent_path}"
            )
        try:
            again = run.finish()
            if self._lost and self._lease is not None:
                self._lease.check()
        except TidemillError as error:
            if isinstance(error, UnreadableFile) and self._goes_on_without(error):
                return
            self._fail(error)
            return
        if again and not stopping:
            self._say(f"{self.pipeline.name}: begins again {again}")
            self._again = True
            return
        self._say(f"{self.pipeline.name}: {words.count(run.batches, 'batch')} published")
        self.done = stopping or self._trigger.cron is None

    def _goes_on_without(self, error: UnreadableFile) -> bool:
        """Set the file aside, and have the stream start again at once."""
        try:
            found = unreadable.set_aside(self._spark, self.pipeline, error, self._setting.run)
        except Exception as another:  # noqa: BLE001  one pipeline's failure is not the others'
            # A full disk, say. What is left is to stop, by the file's name.
            self._say(f"{self.pipeline.name}: the quarantine: {explained(another, self.pipeline).message}")
            return False
        if found:
            self._say(
                f"{self.pipeline.name}: {error.params['file']} cannot be read, and is in the quarantine"
            )
            self._again = True
        return found

    def _fail(self, error: TidemillError) -> None:
        self.error, self.done = error, True
        named = error.message.startswith((f"{self.pipeline.name}:", f"{self.pipeline.name} "))
        if not named and "file" not in error.params:
            # Errors of several pipelines are shown together, and not each knows whose it is.
            error.message = f"{self.pipeline.name}: {error.message}"
        self._say(f"{self.pipeline.name}: stopped: {error.message}")


def run_live(
    spark: SparkSession,
    project: Project,
    pipelines: Sequence[Pipeline],
    *,
    run: str,
    clock: Clock,
    trigger: Trigger | None,
    take_over: bool,
    say: Say,
    stop: threading.Event | None = None,
    survey: Survey | None = None,
) -> Outcomes:
    """Run the live streams until they end, or until SIGTERM, Ctrl-C or ``stop``; then each finishes its batch.

    ``survey``: the runs are a bootstrap's.

    A pipeline that fails does not take the others down. Raises :class:`LeaseHeld` before anything starts
    when another driver has one of the pipelines.
    """
    check_appended(project, pipelines)
    make_inputs(spark, project, pipelines)
    supervised = [
        _Supervised(
            spark,
            pipeline,
            Setting(
                project.root, run, partial(project.code, pipeline.name), Watch(project, pipeline), survey
            ),
            trigger or pipeline.trigger,
            say,
        )
        for pipeline in pipelines
    ]
    with ExitStack() as leases, _stop_signals(stop or threading.Event()) as stopping:
        for each in supervised:
            lease = Lease(
                each.pipeline.table.state_path, "live", what=f"run {run}", clock=clock, take_over=take_over
            )
            each.hold(leases.enter_context(lease))
        while not all(each.done for each in supervised):
            for each in supervised:
                each.step(clock.now(), stopping=stopping.is_set())
            _pause(supervised, stopping)
    return Outcomes(
        Outcome(each.pipeline.name, each.batches, each.error, _astray(project, each.pipeline, say))
        for each in supervised
    )


def _pause(supervised: Sequence[_Supervised], stopping: threading.Event) -> None:
    """Until the next look; shorter where the first query that runs ends before, as most runs have but one."""
    run = next((each.run for each in supervised if each.run is not None), None)
    if run is not None:
        run.wait(_POLL_SECONDS)
    elif stopping.is_set():
        threading.Event().wait(_POLL_SECONDS)
    else:
        stopping.wait(_POLL_SECONDS)


def _astray(project: Project, pipeline: Pipeline, say: Say) -> str | None:
    found = None
    with suppress(TidemillError):  # what hinders it has hindered the run, which says so
        if index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline)).carries:
            found = look(project, pipeline.name).astray
    if found is not None:
        say(
            f"{pipeline.name}: what its stream adds is dirty: {found}; backfill, then tidemill restart {pipeline.name}"
        )
    return found


@contextmanager
def _stop_signals(stop: threading.Event) -> Iterator[threading.Event]:
    """The event, which SIGTERM and SIGINT set too; handlers are only touched in the main thread."""

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former: dict[int, Any] = {
        number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
