"""The verbs, as methods: what the command line, jobs and notebooks call.

Those that only read the ledger (``status``, ``coverage``, ``plan``, ``diff``) are :class:`tidemill.reading.Reading`'s and
start no JVM. Those that compute are here; they take a Spark session from ``spark``, or make one when they need it.
"""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.model import Trigger
from tidemill.planning import gates
from tidemill.planning.plan import Plan
from tidemill.planning.selection import Request, check_selected
from tidemill.reading import Reading
from tidemill.view import downstream, remember_upstream, streams_below, streams_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tidemill.execution.backfill import Done
    from tidemill.execution.bootstrap import Bootstrapped
    from tidemill.execution.bootstrap import Foreseen as ForeseenBootstrap
    from tidemill.execution.check import Checked
    from tidemill.execution.erase import Erasure
    from tidemill.execution.redecide import Redecided
    from tidemill.execution.release import Released, Wanted
    from tidemill.execution.replay import Foreseen, Replayed
    from tidemill.execution.supervise import Outcomes
    from tidemill.execution.upkeep import Upkeep
    from tidemill.execution.verify import Verified


class Engine(Reading):
    """One project's pipelines and what can be done with them.

    ``project``: a folder that holds ``conf/pipelines`` (found upwards from here when None), or a loaded
    project. ``env`` names an overlay. ``say`` is told about progress, line by line.

    >>> Engine("demo").status("clicks")  # doctest: +SKIP
    """

    @property
    def spark(self) -> SparkSession:
        """The session; made, with Java and jars checked, by the first verb that computes."""
        if self._spark is None:
            from tidemill.execution import session

            self._spark = session.build_session("tidemill", project=Path(self.project.root))
        if not self._reaches_stores:
            from tidemill.execution.stores import reach

            reach(self._spark, self.project)
            self._reaches_stores = True
        return self._spark

    def run(
        self,
        *names: str,
        trigger: Trigger | None = None,
        take_over: bool = False,
        stop: threading.Event | None = None,
    ) -> Outcomes:
        """Run live streams until they end, or until SIGTERM or Ctrl-C. All pipelines when none is named.

        ``stop``, set by another thread, ends them too: each finishes its batch.
        Raises :class:`LeaseHeld` when another driver runs one of them.
        """
        pipelines = [self.project.pipeline(name) for name in names or sorted(self.project.pipelines)]
        for pipeline in pipelines:
            self.project.fingerprint(pipeline.name)
        from tidemill.execution import supervise

        return supervise.run_live(
            self.spark,
            self.project,
            pipelines,
            run=self.new_run(),
            clock=self.clock,
            trigger=trigger,
            take_over=take_over,
            stop=stop,
            say=self._say,
        )

    def bootstrap(
        self, name: str, *, newest_first: bool = False, chunk: int | None = None, take_over: bool = False
    ) -> Bootstrapped:
        """Fill a new pipeline's table with what its sources hold, by backfill; its stream goes on from exactly there.

        ``chunk``: intervals in one commit; by default as many as hold some twenty million events. Interrupted, it goes on
        at the next call. Raises :class:`PlanError` for a pipeline whose stream has begun by itself, or that starts at its
        source's end.
        """
        from tidemill.execution import bootstrap

        return bootstrap.bootstrap(
            self, name, newest_first=newest_first, chunk=chunk, take_over=take_over, say=self._say
        )

    def foresee_bootstrap(
        self, name: str, *, newest_first: bool = False, chunk: int | None = None
    ) -> ForeseenBootstrap:
        """What :meth:`bootstrap` would do, by what the sources hold now; writes nothing. Raises as it does."""
        from tidemill.execution import bootstrap

        return bootstrap.foresee(self, name, newest_first=newest_first, chunk=chunk)

    def backfill(
        self,
        work: str | Plan,
        request: Request | None = None,
        *,
        stage_only: bool = False,
        force: bool = False,
        why: str | None = None,
        take_over: bool = False,
        max_concurrent: int = 1,
    ) -> Done:
        """Recompute intervals and swap them in, beside the live stream. ``work``: a pipeline's name, or a plan.

        ``max_concurrent``: chunks that are computed at the same time, in one session; each is its own commit.
        ``force`` publishes what the gate refuses; ``why`` goes into the commit.
        Raises :class:`PlanError` when a plan drifted, nothing was asked for or ``why`` is missing, :class:`LeaseHeld` when
        another backfill of the pipeline is at work (or, for open intervals, the live stream).
        """
        from tidemill.execution import verbs

        forced = gates.forced(force=force, why=why)
        if isinstance(work, str):
            check_selected(work, request)
        return verbs.backfill(
            self,
            work,
            request,
            stage_only=stage_only,
            forced=forced,
            take_over=take_over,
            at_once=max(1, max_concurrent),
            say=self._say,
        )

    def restart(self, name: str, *, take_over: bool = False) -> Done:
        """Have a stream whose own states are not those of its table begin anew from those, exactly where it stands.

        In one commit: rows of intervals that are not complete are computed again, as far as the stream has stepped, and its
        next batch begins with the states of that moment and all rows that wait. Nothing is read twice, nothing is left out.
        Without a chunk there was nothing to do. Raises :class:`PlanError` where intervals before are to be backfilled first,
        :class:`LeaseHeld` while the stream, or a backfill, is at work.

        >>> engine.restart("balances")  # doctest: +SKIP
        """
        from tidemill.execution import restart

        return restart.restart(self, name, take_over=take_over, say=self._say)

    def foresee_restart(self, name: str) -> Plan:
        """The plan of :meth:`restart`, without chunks where there is nothing to do; writes nothing. Raises as it does."""
        from tidemill.execution import restart

        return restart.foresee(self, name)

    def rebuild(
        self, name: str, *, force: bool = False, why: str | None = None, take_over: bool = False
    ) -> Done:
        """Make all of a pipeline's table anew with today's code, beside the live stream, and publish it in one commit.

        Readers see the old table or the new one, at the same path; :meth:`undo` takes it back. A table of more than 400
        intervals is published in several commits. Nothing is sent to a topic. Raises as :meth:`backfill`.
        """
        from tidemill.execution import replay, verbs

        return verbs.backfill(
            self,
            name,
            replay.EVERYTHING,
            stage_only=False,
            forced=gates.forced(force=force, why=why),
            take_over=take_over,
            at_once=1,
            say=self._say,
            cut=replay.rebuild_plan,
        )

    def foresee_rebuild(self, name: str) -> Plan:
        """The plan of :meth:`rebuild`; nothing is written. No JVM."""
        from tidemill.execution import replay

        return replay.rebuild_plan(self.plan(name, replay.EVERYTHING))

    def replay(
        self,
        name: str,
        into: str | Path,
        *,
        start: str | datetime | None = None,
        until: str | int | datetime | None = None,
        position_column: str | None = None,
        speed: str | float | None = None,
        stop: threading.Event | None = None,
    ) -> Replayed:
        """Replay a pipeline's events through today's code into a fresh table at ``into``, in one commit.

        ``start``, ``until``: event times, the second not included; ``until`` may be a position, which is: the events up to and
        with it by the column ``position_column`` (``position`` where none is named). Nothing of the pipeline itself is touched,
        and nothing is sent. ``speed``: as a live stream of small batches instead, at so many times the pace of the events
        (``10x``); SIGTERM, Ctrl-C or ``stop`` end that after the batch it is in.

        Raises :class:`PlanError` where something stands at ``into``, for events that cannot be told, and for an event store.

        >>> engine.replay("balances", "tables/balances_in_may", until="2024-06-01")  # doctest: +SKIP
        """
        from tidemill.execution import pace, replay
        from tidemill.planning.replaying import Events, parse_speed

        events = Events.of(start, until, position_column)
        if speed is None:
            return replay.replay(self, name, str(into), events, self._say)
        return pace.replay_paced(self, name, str(into), events, parse_speed(speed), stop, self._say)

    def foresee_replay(
        self,
        name: str,
        into: str | Path,
        *,
        start: str | datetime | None = None,
        until: str | int | datetime | None = None,
        position_column: str | None = None,
    ) -> Foreseen:
        """What :meth:`replay` would read and write; writes nothing, and starts no JVM. Raises as it does."""
        from tidemill.execution import replay
        from tidemill.planning.replaying import Events

        return replay.foresee(self, name, str(into), Events.of(start, until, position_column))

    def releasable(
        self,
        name: str,
        *,
        where: str | None = None,
        reason: str | None = None,
        of_input: str | None = None,
    ) -> Wanted:
        """What a release of rows of the quarantine would do; writes nothing.

        ``where``: a condition in SQL over the quarantine's columns; ``reason``: a part of a reason; ``of_input``: an
        input's name, "" for rows of the table. Without any: every row. Raises :class:`PlanError` when ``where`` is no
        such condition, when it or ``reason`` is empty, and for an input that the pipeline does not have.
        """
        from tidemill.execution import release

        condition = release.condition(self.project.pipeline(name), where, reason, of_input)
        return release.wanted(self, name, condition)

    def release(
        self, wanted: Wanted, *, force: bool = False, why: str | None = None, take_over: bool = False
    ) -> Released:
        """Send rows that were set aside through today's rules and code again, by a backfill of their intervals.

        What passes is in the table, once, and no longer in the quarantine; the rest stays there. A row that a rule drops
        is in neither. Raises as :meth:`backfill`.

        >>> engine.release(engine.releasable("clicks", reason="to_be_between"))  # doctest: +SKIP
        """
        from tidemill.execution import release

        return release.release(
            self, wanted, forced=gates.forced(force=force, why=why), take_over=take_over, say=self._say
        )

    def resume(self, run: str, *, force: bool = False, why: str | None = None) -> Done:
        """Carry on a backfill that was interrupted: what is published stays, the others are computed.

        ``force``, ``why``: as in :meth:`backfill`.
        """
        from tidemill.execution import verbs

        return verbs.resume(self, run, forced=gates.forced(force=force, why=why), say=self._say)

    def publish(self, run: str, *, force: bool = False, why: str | None = None) -> Done:
        """Publish what a run staged, or publish again what was undone.

        ``force`` overrides the gate; ``why`` goes into the commit of each chunk that the gate refuses. Raises
        :class:`QualityError` when the gate refuses, :class:`PlanError` when ``force`` comes without ``why``.
        """
        from tidemill.execution import verbs

        return verbs.publish_run(self, run, forced=gates.forced(force=force, why=why))

    def undo(self, run: str) -> tuple[str, ...]:
        """Take a run's swaps back; gives the intervals. Rows that came later stay."""
        from tidemill.execution import verbs

        return verbs.undo(self, run)

    def verify(self, name: str, request: Request | None = None, *, probe: bool = False) -> Verified:
        """Recompute intervals (all clean ones by default) and compare them with the table; publishes nothing.

        ``probe`` also recomputes with a doubled reach, and names intervals whose rows change.
        """
        from tidemill.execution import verify

        return verify.verify(self, name, request or Request(), probe=probe, say=self._say)

    def redecide(self, name: str, *, most: int = 20) -> Redecided:
        """What today's code would have decided of the commands that an event store has decided, in the order of then.

        Writes nothing. ``most``: how many differences are listed. Raises :class:`PlanError` for a pipeline that decides
        nothing, or has not yet.
        """
        from tidemill.execution import redecide

        return redecide.redecide(self, name, most=most)

    def check(self, name: str, request: Request | None = None) -> Checked:
        """What the table's suite finds of the rows that the table holds, in the request's range (all by default).

        All of the suite: what is judged in the write, and what runs in GX. Publishes nothing. Raises
        :class:`ConfigError` where there is no suite or it does not fit the table, :class:`QualityError` where GX cannot
        answer.
        """
        from tidemill.execution import check

        return check.check(self, name, request or Request(), say=self._say)

    def erase(self, subject: str, *, dry_run: bool = False, unseen: bool = False) -> Erasure:
        """Erase a person: their key is gone for good, and what is computed from their fields is dirty.

        Of each pipeline with personal fields, the intervals that rows of the person belong to are marked: a backfill computes
        them again, with nothing where the person's fields were. To erase again does no harm. With ``dry_run`` nothing is written.

        Raises :class:`PlanError` where no pipeline has personal fields, and where neither a key of the person nor an erasure is
        known, unless it is asked for (``unseen``): what comes later under this name is unreadable then. :class:`StateError`
        where a store of keys is lost or an input cannot be read, after all else is done: its ``key_is_gone`` says whether a
        key went, its message all that is to be put right before it is called again. Beside a backfill it waits for nothing:
        what that publishes is dirty, too.
        """
        from tidemill.execution import erase

        return erase.erase(self, subject, dry_run=dry_run, unseen=unseen, say=self._say)

    def maintain(
        self, name: str, *, retention_hours: int = 168, log_hours: int = 720, dry_run: bool = False
    ) -> Upkeep:
        """Compact small files, write a log checkpoint, vacuum and clean from the log what nothing needs. No JVM.

        What an archive's sink does not retain any more goes first.

        Kept: what readers, ``undo`` and ``resume`` need for ``retention_hours``, the log for ``log_hours``, and the
        commits that the project's streams below have yet to read.
        """
        from tidemill.execution import upkeep
        from tidemill.execution.upkeep_beside import tables_beside

        view = self.view(name)
        below = streams_below(self.project, view.pipeline)
        if not dry_run:
            for reader in (name, *downstream(self.project, view.pipeline)):
                remember_upstream(self.project, reader)
        return upkeep.maintain(
            view,
            retention_hours=retention_hours,
            log_hours=log_hours,
            below=below,
            below_beside={each: streams_of(self.project, each) for each in tables_beside(view.pipeline)},
            now=self.clock.now(),
            dry_run=dry_run,
        )

    def check_rules(self, name: str) -> None:
        """Whether a pipeline's suites fit GX, and its rows; Spark is started when it has any. And whether its domain loads.

        Raises :class:`ConfigError` with file and line.
        """
        pipeline = self.project.pipeline(name)
        if pipeline.decides is not None:
            from tidemill.transforms.apply import load_domain

            load_domain(pipeline.decides, self.project.root)
        suites = [*pipeline.quality.inputs.values(), *filter(None, [pipeline.quality.suite])]
        if not suites:
            return
        from tidemill.execution.rules import check_rules
        from tidemill.quality.in_gx import check_in_gx

        for suite in suites:
            check_in_gx(suite)
        check_rules(self.spark, pipeline, self.project.root)
