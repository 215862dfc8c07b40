"""What a project's ledgers say, as methods: the verbs that start no JVM."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.clock import Clock, SystemClock
from tidemill.config import Project, load_project
from tidemill.display.status import statuses_html
from tidemill.errors import PlanError, TidemillError
from tidemill.execution import pins, runs
from tidemill.ledger.judge import NOT_CLEAN, State
from tidemill.planning import plan as plans
from tidemill.planning.forward import forward
from tidemill.planning.plan import Plan
from tidemill.planning.recorded import check_not_recorded
from tidemill.planning.selection import Request
from tidemill.planning.timed import check_timed
from tidemill.reports import Coverage, Status, Statuses
from tidemill.sinks import writer
from tidemill.storage import place, use
from tidemill.view import View, downstream, look

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tidemill.aggregates import Aggregate
    from tidemill.execution.diff import Diff
    from tidemill.execution.docs import Docs
    from tidemill.quarantined import Quarantined
    from tidemill.queries import Answer, Tables
    from tidemill.states import StatesAt


class Reading:
    """One project, and what its pipelines' ledgers say. Reads files alone; see :class:`tidemill.Engine` for the rest."""

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
        self._tables: Tables | None = None
        self._say = say or (lambda _line: None)

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
        check_not_recorded(self.project.pipeline(name), "backfilled")
        view = self.view(name)
        pipeline = view.pipeline
        check_timed(pipeline, view.coverage)
        selection = view.select(request, self.clock.now())
        if view.coverage.carries:
            selection = forward(
                selection, view.judged, request, grain=pipeline.grain, live=view.coverage.live
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
        again = "make one: tidemill plan P --out FILE"
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
            pipeline = self.project.pipeline(body["pipeline"])
            return plans.from_json(body, pipeline, writer=writer.choose(pipeline.table.path).text)
        except OSError as error:
            raise PlanError(f"{path} cannot be read: {error.strerror}", next_step=again) from None
        except (ValueError, KeyError, TypeError) as error:
            raise PlanError(f"{path} is not a plan: {error}", next_step=again) from None

    def find_run(self, run: str) -> str:
        """The pipeline that a run belongs to. Raises :class:`PlanError` when there is no such run."""
        known: dict[str, str] = {}
        for pipeline in self.project.pipelines.values():
            known |= dict.fromkeys(runs.list_runs(pipeline.table.state_path), pipeline.name)
        if run in known:
            return known[run]
        newest = ", ".join(f"{each} ({known[each]})" for each in sorted(known, reverse=True)[:3])
        raise PlanError(
            f"there is no run {run!r}",
            next_step=f"the newest runs here: {newest}"
            if newest
            else "none is kept here: a backfill makes one",
            run=run,
        )

    def quarantined(
        self, name: str, *, reason: str | None = None, of_input: str | None = None, most: int = 10
    ) -> Quarantined:
        """The input rows that were set aside, by reason, and the ``most`` newest of them. No JVM.

        ``reason``: a part of the reason's text; ``of_input``: an input's name.
        """
        from tidemill.quarantined import quarantined

        return quarantined(self.project.pipeline(name), reason=reason, of_input=of_input, most=most)

    def state_at(self, name: str, at: datetime | str, key: Mapping[str, object] | None = None) -> StatesAt:
        """The states of a fold without a horizon at the last interval end at or before ``at``. No JVM.

        ``key``: values of the key's columns, all or some of them, a list where any of several is meant; every key, when None.
        Raises :class:`PlanError` where no states are kept, or none as late as that.

        >>> engine.state_at("balances", "2024-03-05", key={"account": "a"})  # doctest: +SKIP
        """
        from tidemill.states import states_at

        return states_at(self.view(name), at, key)

    def key_columns(self, name: str) -> tuple[str, ...]:
        """The columns by whose values the states are kept that :meth:`state_at` reads; none where none are kept. No JVM."""
        from tidemill.states import key_columns

        return key_columns(self.project.pipeline(name))

    def aggregate(
        self, name: str, aggregate: str, *, version: int | None = None, at: datetime | None = None
    ) -> Aggregate:
        """The state of an aggregate (``"account/17"``) of an event store, by today's code: now, after so many events, or
        after all up to a time. No JVM.

        Raises :class:`PlanError` where there is none, :class:`StateError` naming an event that cannot be read.
        """
        from tidemill.aggregates import aggregate_at
        from tidemill.transforms.apply import load_domain

        pipeline = self.project.pipeline(name)
        if pipeline.decides is None:
            raise PlanError(f"{name} is no event store", next_step="name a pipeline with a step that decides")
        domain = load_domain(pipeline.decides, self.project.root)
        return aggregate_at(pipeline, domain, aggregate, version=version, at=at)

    def query(self, sql: str, *, at: int | str | datetime | None = None) -> Answer:
        """Answer one SELECT, in DuckDB's SQL, from the pipelines' tables: their names are the tables' names. No JVM.

        Every table is read at one version, which the answer names; nothing can be written, and nothing else can be read.
        ``at``: as the tables were at a moment, by the times of their commits; or a version, where the query reads one table.
        Raises :class:`QueryError` for what is no such query, for a name that is no pipeline's, and for a past that is gone.

        >>> engine.query("SELECT balance FROM balances WHERE account = 'a-1'").rows  # doctest: +SKIP
        [(120,)]
        """
        if self._tables is None:
            from tidemill.queries import Tables

            self._tables = Tables(self.project)
        return self._tables.query(sql, at)

    def docs(self, name: str, *, out: str | Path | None = None, keep: int = 200) -> Docs:
        """Write Data Docs: static pages of the ``keep`` newest validations that the table's log holds. No JVM.

        ``out``: the folder; else ``data_docs`` beside the pipeline's ledger. Raises :class:`ConfigError` for a pipeline
        without suites.
        """
        from tidemill.execution.docs import write_docs

        pipeline = self.project.pipeline(name)
        return write_docs(pipeline, place(str(out or f"{pipeline.table.state_path}/data_docs")), keep)

    def diff(self, run: str) -> Diff:
        """What a run staged, chunk by chunk: rows added, removed and changed, with samples. No JVM."""
        from tidemill.execution.diff import Diff

        view = self.view(self.find_run(run))
        return Diff.of(view, run, runs.RunFolder(view.pipeline.table.state_path, run).manifests())

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
