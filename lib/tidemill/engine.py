"""The verbs, as methods: what the command line, jobs and notebooks call.

Verbs that only read the ledger (``status``, ``coverage``, ``plan``, ``diff``) start no JVM. Those that compute
take a Spark session from ``spark``, or make one when they need it.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.clock import Clock, SystemClock
from tidemill.config import Project, load_project
from tidemill.display.status import statuses_html
from tidemill.errors import PlanError, TidemillError
from tidemill.execution import pins, runs
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning import gates
from tidemill.planning import plan as plans
from tidemill.planning.plan import Plan
from tidemill.planning.selection import Request, select
from tidemill.reports import Coverage, Status, Statuses
from tidemill.sinks import writer
from tidemill.storage import place, use
from tidemill.view import View, downstream, look, remember_upstream, streams_below

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tidemill.execution.backfill import Done
    from tidemill.execution.bootstrap import Bootstrapped, Foreseen
    from tidemill.execution.check import Checked
    from tidemill.execution.diff import Diff
    from tidemill.execution.docs import Docs
    from tidemill.execution.release import Released, Wanted
    from tidemill.execution.supervise import Outcomes
    from tidemill.execution.upkeep import Upkeep
    from tidemill.execution.verify import Verified
    from tidemill.quarantined import Quarantined

NOT_CLEAN = frozenset({State.DIRTY, State.STALE, State.MISSING})


class Engine:
    """One project's pipelines and what can be done with them.

    ``project``: a folder that holds ``conf/pipelines`` (found upwards from here when None), or a loaded
    project. ``env`` names an overlay. ``say`` is told about progress, line by line.

    >>> Engine("examples").status("clicks")  # doctest: +SKIP
    """

    def __init__(
        self,
        project: str | Path | Project | None = None,
        *,
        env: str | None = None,
        spark: SparkSession | None = None,
        clock: Clock | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if isinstance(project, Project):
            self.project = project
        else:
            self.project = load_project(Path(project) if project else None, env=env)
        use(self.project.stores)
        self.clock = clock or SystemClock()
        self._spark = spark
        self._reaches_stores = False
        self._say = say or (lambda _line: None)

    # -- reading the ledger: no JVM ------------------------------------------------------------------

    def view(self, name: str) -> View:
        """A pipeline's ledger, judged by today's code."""
        return look(self.project, name)

    def coverage(self, name: str) -> Coverage:
        """What each interval of a pipeline's table holds, and whether that is clean."""
        return Coverage.of(self.view(name))

    def status(self, name: str | None = None) -> Statuses:
        """Coverage in numbers, lag, last batches, holder of the lease; of one pipeline or of all."""
        names = [name] if name else sorted(self.project.pipelines)
        return Statuses(Status.of(self.project, self.view(each), self.clock.now()) for each in names)

    def plan(self, name: str, request: Request | None = None) -> Plan:
        """What a backfill would do; nothing is written. Without a request: everything that is not clean.

        Raises :class:`PlanError` when the request cannot be planned.
        """
        request = request if request is not None and request.anything else Request(states=NOT_CLEAN)
        view = self.view(name)
        pipeline = view.pipeline
        selection = select(
            view.judged,
            request,
            grain=pipeline.grain,
            live=view.coverage.live,
            begin=pipeline.start,
            now=self.clock.now(),
            since=view.since,
        )
        provisional = any(each.state is State.OPEN for each in selection.chosen)
        return plans.plan_backfill(
            pipeline,
            selection,
            fingerprint=view.fingerprint,
            pin=pins.pin_now(self.project, pipeline, view.coverage),
            writer=writer.choose(pipeline.table.path).text,
            downstream=downstream(self.project, pipeline),
            provisional=provisional,
        )

    def load_plan(self, path: str | Path) -> Plan:
        """A plan that ``plan --out`` saved. Raises :class:`PlanError` when the file is not one."""
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
            pipeline = self.project.pipeline(body["pipeline"])
            return plans.from_json(body, pipeline, writer=writer.choose(pipeline.table.path).text)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PlanError(
                f"{path} is not a plan: {error}", next_step="make one: tidemill plan P --out FILE"
            ) from None

    def find_run(self, run: str) -> str:
        """The pipeline that a run belongs to. Raises :class:`PlanError` when there is no such run."""
        for pipeline in self.project.pipelines.values():
            if run in runs.list_runs(pipeline.table.state_path):
                return pipeline.name
        raise PlanError(f"there is no run {run!r}", next_step="see: tidemill status", run=run)

    def quarantined(
        self, name: str, *, reason: str | None = None, of_input: str | None = None, most: int = 10
    ) -> Quarantined:
        """The input rows that were set aside, by reason, and the ``most`` newest of them. No JVM.

        ``reason``: a part of the reason's text; ``of_input``: an input's name.
        """
        from tidemill.quarantined import quarantined

        return quarantined(self.project.pipeline(name), reason=reason, of_input=of_input, most=most)

    def docs(self, name: str, *, out: str | Path | None = None, keep: int = 200) -> Docs:
        """Write Data Docs: static pages of the ``keep`` newest validations that the table's log holds. No JVM.

        ``out``: the folder; else ``data_docs`` beside the pipeline's ledger. Raises :class:`ConfigError` for a pipeline
        without suites.
        """
        from tidemill.execution.docs import write_docs

        pipeline = self.project.pipeline(name)
        return write_docs(pipeline, place(str(out or f"{pipeline.table.state_path}/data_docs")), keep)

    # -- computing -----------------------------------------------------------------------------------

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
    ) -> Foreseen:
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
        if isinstance(work, str) and (request is None or not request.anything):
            raise PlanError(
                "say which intervals",
                next_step="--from and --to, or --dirty, --stale, --missing, --open, or --plan FILE; what there is: "
                f"tidemill plan {work}",
            )
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
        such condition.
        """
        from tidemill.execution import release

        return release.wanted(self, name, release.condition(where, reason, of_input))

    def release(
        self, wanted: Wanted, *, force: bool = False, why: str | None = None, take_over: bool = False
    ) -> Released:
        """Send rows that were set aside through today's rules and code again, by a backfill of their intervals.

        What passes is in the table, once, and no longer in the quarantine; the rest stays there. Raises as
        :meth:`backfill`.

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

    def diff(self, run: str) -> Diff:
        """What a run staged, chunk by chunk: rows added, removed and changed, with samples. No JVM."""
        from tidemill.execution.diff import Diff

        view = self.view(self.find_run(run))
        return Diff.of(view, run, runs.RunFolder(view.pipeline.table.state_path, run).manifests())

    def verify(self, name: str, request: Request | None = None, *, probe: bool = False) -> Verified:
        """Recompute intervals (all clean ones by default) and compare them with the table; publishes nothing.

        ``probe`` also recomputes with a doubled reach, and names intervals whose rows change.
        """
        from tidemill.execution import verify

        return verify.verify(self, name, request or Request(), probe=probe, say=self._say)

    def check(self, name: str, request: Request | None = None) -> Checked:
        """What the table's suite finds of the rows that the table holds, in the request's range (all by default).

        All of the suite: what is judged in the write, and what runs in GX. Publishes nothing. Raises
        :class:`ConfigError` where there is no suite or it does not fit the table, :class:`QualityError` where GX cannot
        answer.
        """
        from tidemill.execution import check

        return check.check(self, name, request or Request(), say=self._say)

    def maintain(
        self, name: str, *, retention_hours: int = 168, log_hours: int = 720, dry_run: bool = False
    ) -> Upkeep:
        """Compact small files, write a log checkpoint, vacuum and clean from the log what nothing needs. No JVM.

        What an archive's sink does not retain any more goes first.

        Kept: what readers, ``undo`` and ``resume`` need for ``retention_hours``, the log for ``log_hours``, and the
        commits that the project's streams below have yet to read.
        """
        from tidemill.execution import upkeep

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
            now=self.clock.now(),
            dry_run=dry_run,
        )

    def check_rules(self, name: str) -> None:
        """Whether a pipeline's suites fit GX, and its rows; Spark is started when it has any.

        Raises :class:`ConfigError` with file and line.
        """
        pipeline = self.project.pipeline(name)
        suites = [*pipeline.quality.inputs.values(), *filter(None, [pipeline.quality.suite])]
        if not suites:
            return
        from tidemill.execution.rules import check_rules
        from tidemill.quality.in_gx import check_in_gx

        for suite in suites:
            check_in_gx(suite)
        check_rules(self.spark, pipeline, self.project.root)

    def _repr_html_(self) -> str:
        return statuses_html((name, self._status_or_error(name)) for name in sorted(self.project.pipelines))

    def _status_or_error(self, name: str) -> Status | TidemillError:
        try:
            return self.status(name)[0]
        except TidemillError as error:
            return error

    def new_run(self) -> str:
        """A run's name: when it began, and a few letters that make it one of a kind."""
        return f"{self.clock.now():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
