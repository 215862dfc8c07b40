"""The live run of one pipeline: a streaming query whose every batch is one commit.

A batch, in order (a crash between any two lines leaves what the next start expects):

1. Spark has written ``offsets/<batch>``: what the batch reads is decided.
2. The batch was published before (crash after 5): write nothing; a stateful query still runs it, into
   nowhere, so that its state and watermark advance as they did the first time.
3. Stage: run the batch once, writing files that no reader sees.
4. The pipeline's suites were judged on the way: an expectation that fails ends the run here. Bad rows were counted: set
   them aside, committed under the batch's number. States of a fold without a horizon are kept, where an interval has ended.
5. Publish: one commit with the files, the batch's facts and the batch's number. Where the pipeline has a topic, the rows
   of that commit are sent there; a start sends what an earlier run has not.
6. Spark writes ``commits/<batch>``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from tidemill.errors import QualityError, SourceError, StateError
from tidemill.execution import resume, seeds
from tidemill.execution.brokers import check_brokers, note_read
from tidemill.execution.counts import check_counts
from tidemill.execution.decisions import Decisions
from tidemill.execution.failures import explained
from tidemill.execution.fits import check_checkpoint, check_follows, check_moved, check_same, check_watermarks
from tidemill.execution.folds import carrying_in, check_stored, check_streamed
from tidemill.execution.hold import wait_while_held
from tidemill.execution.hush import Hush
from tidemill.execution.late import late
from tidemill.execution.named import places_of
from tidemill.execution.outbox import Outbox
from tidemill.execution.quarantine import set_aside, set_aside_output, tried
from tidemill.execution.rules import judged_batch, refuse
from tidemill.execution.schemas import StartAgain, check_batch, learn_listed
from tidemill.execution.session import session_of
from tidemill.execution.snapshots import States
from tidemill.execution.streamplan import Inspector, nature
from tidemill.execution.survey import Survey
from tidemill.execution.swap import take_back
from tidemill.execution.taken import Watch
from tidemill.execution.touched import reached, touched_ranges
from tidemill.execution.unreadable import given_up_between
from tidemill.folds.carry import STATE, Carry, Carrying
from tidemill.ledger import bootstraps, edge, index, inputs, schemas, unreadable
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import LiveBatch
from tidemill.ledger.lease import Lease
from tidemill.model import Pipeline
from tidemill.protocol import Point, passing
from tidemill.quality.watch import OUTPUT, Seen, Watched
from tidemill.sinks import stage
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import appended, publish
from tidemill.sinks.rows import stage_rows
from tidemill.sinks.table import AppVersion
from tidemill.sinks.target import of_log_commits, open_table
from tidemill.sinks.upsert import publish_merged
from tidemill.sources.live import live_frames, observed
from tidemill.transforms.apply import transform
from tidemill.view import shape_of

_INDEX_EVERY = 50


class StopBetweenBatches(Exception):  # not an error: how a query is told to end
    """Raised inside the next batch, before it does anything, when the run was asked to stop."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a live run needs to know besides the pipeline."""

    root: str
    run: str
    code: Callable[[], str]
    """Asked at each start: a driver by cron lives on, and loads what has changed."""
    watch: Watch
    survey: Survey | None = None
    """Where the run is a bootstrap's: its batches count what there is, and owe it."""


class _Once(TypedDict):
    app: str
    version: int
    again: bool


class LiveRun:
    """One pipeline's streaming query, from start to stop. Holds the pipeline's live lease meanwhile."""

    def __init__(self, spark: SparkSession, pipeline: Pipeline, setting: Setting, lease: Lease) -> None:
        self.pipeline = pipeline
        self.setting = setting
        self.checkpoint = f"{pipeline.table.state_path}/checkpoint"
        self._spark = session_of(spark, pipeline)
        self._lease, self._hush = lease, Hush(self._spark)
        self._query: StreamingQuery | None = None
        self._inspector: Inspector | None = None
        self._outbox: Outbox | None = None
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._sources: dict[str, int] = {}
        self._coverage = Coverage()
        self.batches = self.too_great = 0

    def start(self, *, available_now: bool, every_ms: int | None = None) -> None:
        """Check that table, checkpoint and code fit, and start the query.

        Raises :class:`StateError`, :class:`PlanError`, :class:`QualityError` or :class:`ConfigError` before anything is
        read.
        """
        pipeline = self.pipeline
        self._watched = Watched.of(pipeline)
        self.setting.watch.begin()
        self._schemas = learn_listed(self._spark, pipeline)
        self._code = schemas.sealed(self.setting.code(), pipeline.table.state_path)
        survey = self.setting.survey
        self._coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
        self._seed = seeds.pending(self._coverage, self.checkpoint)
        self._unheard = seeds.Unheard(pipeline, self._coverage)
        output, frame = self._frames()
        refuse(pipeline, self._watched.of_columns(), "every batch")
        self._nature = nature(frame)
        if self._nature.stateful:
            check_watermarks(pipeline)
        check_streamed(pipeline, self._nature.fold, output, bootstrapped=survey is not None)
        if STATE in output.columns:
            of_log_commits(pipeline.table.path, f"{pipeline.name} carries states")
        if survey is None:
            bootstraps.check_done(pipeline.table.state_path, pipeline.name)
        check_checkpoint(pipeline, self._coverage, self.checkpoint)
        if self._coverage.seed is not None:
            seeds.tidy(pipeline, self._seed)
        check_moved(pipeline, self._coverage, self.checkpoint)
        check_stored(pipeline, self._nature.fold, self.checkpoint)
        check_brokers(self._spark, pipeline, self._coverage)
        # It grows only where this run has ended: another begins then.
        self._given_up = unreadable.read(pipeline.table.state_path)
        self._table = open_table(output.drop(STATE), pipeline)
        stage.check_rules(self._table, pipeline)
        self._states = States(self._spark, pipeline, self._table, output) if STATE in output.columns else None
        if self._decisions:
            self._decisions.begin(self._table)
        take_back(self._spark, pipeline, self._table, self._coverage, self._lease.check)
        self._schema = output.schema
        self._outbox = Outbox.open(self._spark, pipeline, self._table)
        self._send()
        if pipeline.table.mode == "append":
            # Part of the stream, so that it is planned once and not in each batch.
            frame = self._table.place(frame, pipeline)
        self._spark.sparkContext.setLocalProperty("spark.scheduler.pool", pipeline.name)
        writer = frame.writeStream.foreachBatch(self._safely).queryName(pipeline.name)
        writer = writer.option("checkpointLocation", self.checkpoint)
        if available_now:
            writer = writer.trigger(availableNow=True)
        else:
            writer = writer.trigger(processingTime=f"{every_ms or 0} milliseconds")
        self._query = writer.start()
        self._inspector = Inspector(self._query)
        self._app = f"tidemill/{pipeline.name}/{self._query.id}"
        self._started.set()

    def _frames(self) -> tuple[DataFrame, DataFrame]:
        """The rows that the table's schema is of; and all that a batch writes, watched."""
        pipeline, survey, root = self.pipeline, self.setting.survey, self.setting.root
        begin = resume.begin(pipeline, self._coverage)
        frames = live_frames(
            self._spark, survey.whole(pipeline) if survey else pipeline, self._watched, begin
        )
        if survey:
            frames = survey.inputs(pipeline, frames)
        self._decisions = Decisions.opened(
            self._spark, pipeline, self._coverage, root, self._code, self._lease.check
        )
        if self._decisions:
            output = transform(self._spark, pipeline, frames, root, self._decisions.seed)
            return self._decisions.split(output)
        planting = seeds.planting(pipeline, self._seed)
        how = Carrying(Carry(pipeline.grain.value, pipeline.interval_column), planting=planting)
        with carrying_in(pipeline, how):
            output = transform(self._spark, pipeline, frames, root)
        stage.check_columns(output.drop(STATE), pipeline)
        if survey:
            output = survey.output(pipeline, output)
        return output, self._watched.output(output)

    @property
    def active(self) -> bool:
        """Whether the query is running."""
        return self._query is not None and self._query.isActive

    def request_stop(self) -> None:
        """Ask the query to end after the batch it is in."""
        self._stopping.set()

    def poll_stop(self) -> None:
        """End a query that was asked to stop and is idle; a busy one ends itself at its next batch."""
        query = self._query
        if not self._stopping.is_set() or query is None or not query.isActive:
            return
        if not query.status["isTriggerActive"]:
            query.stop()

    def finish(self) -> str | None:
        """After the query has ended: bring the index up to date, and raise what ended it, if anything did.

        A text: it is to begin again at once, with what that says.
        """
        pipeline, query = self.pipeline, self._query
        if query is not None:
            index.refresh(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
            query.stop()
        self._hush.off()
        failure = self._failure or (query.exception() if query is not None else None)
        # The JVM's query holds this run, as what it calls for each batch, and this run holds the query and its
        # session: neither side's collector sees the circle. A driver that starts by cron would fill its heap.
        self._query = self._inspector = self._outbox = None
        del self._spark
        if failure is not None and not isinstance(failure, (StopBetweenBatches, StartAgain)):
            # Who slept through a takeover fails in many ways, for that one reason.
            self._lease.check()
            raise explained(failure, pipeline) from failure
        return str(failure) if isinstance(failure, StartAgain) else None

    def _safely(self, frame: DataFrame, batch: int) -> None:
        # Spark wraps what is raised here in text; the run wants the exception itself.
        try:
            self._started.wait(30)
            wait_while_held(self.pipeline, self._stopping)
            if self._stopping.is_set():
                raise StopBetweenBatches  # noqa: TRY301  # caught right here, as any other end of the batch is
            if self._seed is not None and batch > self._seed.batch + 1:
                # One batch alone begins anew; the others go another way through Spark.
                raise StartAgain("without what it has begun anew with")  # noqa: TRY301  # as the one above
            self._batch(frame, batch)
        except BaseException as error:
            self._failure = error
            if isinstance(error, (StopBetweenBatches, StartAgain)):
                self._hush.on()
            raise

    def _batch(self, frame: DataFrame, batch: int) -> None:
        table, pipeline = self._table, self.pipeline
        passing(Point.OFFSETS_WRITTEN)
        table.refresh()
        if self._published(frame, batch):
            return
        persons = self.setting.watch.before(table.version)
        upserts, decisions = pipeline.table.mode == "upsert", self._decisions
        if decisions:
            decisions.before()
        staged = stage_rows(table, frame, pipeline) if upserts else table.stage(frame, pipeline)
        passing(Point.FILES_STAGED)
        rows, states = stage.without_states(staged)
        files, aside = stage.parted(rows)
        assert self._inspector is not None  # noqa: S101  # the query has started
        seen = self._inspector.observed()
        fact = self._fact(batch, seen)
        fact = replace(fact, verdicts=judged_batch(pipeline, table, files, fact.verdicts), **persons)
        if decisions:
            fact, aside = decisions.staged(fact, files, aside), ()
        try:
            check_batch(self._spark, pipeline, self._schemas, seen)
            refuse(pipeline, fact.verdicts, f"batch {batch}", live=True)
        except (QualityError, SourceError, StartAgain):
            table.discard(staged)
            raise
        check_counts(pipeline, fact, files, aside, self._watched.left_out(OUTPUT, seen).rows)
        if fact.quarantined or fact.output_quarantined or not self.batches:
            fact = self._set_aside(batch, fact, aside, seen)
            passing(Point.BAD_ROWS_SET_ASIDE)
        if self._states is not None:
            fact = self._states.kept(fact, states, again=not self.batches)
        app, guard = AppVersion(self._app, batch), self._lease.check
        if upserts:
            publish_merged(self._spark, pipeline, table, self._schema, files, fact, app, guard)
        else:
            self._append(files, fact, app)
        if decisions:
            decisions.deliver(fact, guard)
        self.batches += 1
        if self.batches % _INDEX_EVERY == 0:
            self._coverage = index.refresh(
                pipeline.table.path, pipeline.table.state_path, shape_of(pipeline), self._coverage
            )
        passing(Point.BATCH_PUBLISHED)
        self._send()

    def _append(self, files: tuple[DataFile, ...], fact: LiveBatch, app: AppVersion) -> None:
        def guard() -> None:
            self._lease.check()
            self._unheard.check(self._table)

        try:
            published = publish(self._table, appended(files, fact, app), guard)
        except StartAgain:
            self._table.discard(files)
            raise
        if not published.already:
            self._unheard.published()

    def _published(self, frame: DataFrame, batch: int) -> bool:
        """Whether the batch was published before; where state is kept, that is made again."""
        done = self._table.app_version(self._app)
        check_follows(self.pipeline, done, batch)
        if done != batch:
            return False
        now = inputs.read_offsets(self.checkpoint, batch)
        check_same(self.pipeline, self._coverage, batch, self._named(now.ends if now else ()))
        if self._nature.stateful:
            with self._decisions.again(self._app, batch) if self._decisions else nullcontext():
                frame.write.format("noop").mode("overwrite").save()
        return True

    def _send(self) -> None:
        if self._outbox is not None:
            self.too_great += self._outbox.catch_up(self._lease.check)

    def _fact(self, batch: int, seen: Seen) -> LiveBatch:
        pipeline, inspector = self.pipeline, self._inspector
        assert inspector is not None  # noqa: S101  # the query has started
        now = inputs.read_offsets(self.checkpoint, batch)
        if now is None:
            raise StateError(f"{self.checkpoint}/offsets/{batch} is not there", file=self.checkpoint)
        before = inputs.read_offsets(self.checkpoint, batch - 1)
        moving = [name for name, each in pipeline.inputs.items() if not each.static]
        counts = [seen.get(observed(name), {}) for name in moving]
        left_out = [self._watched.left_out(name, seen) for name in moving]
        dropped = sum(each.dropped for each in left_out)
        output = self._watched.left_out(OUTPUT, seen)
        buckets = sorted({bucket for each in counts for bucket in each.get("buckets") or ()})
        late_before = before.watermark if before else 0
        start, end = self._named(before.ends if before else ()), self._named(now.ends)
        note_read(pipeline, start, end, seen)
        given_up = sum(
            given_up_between(files, self.checkpoint, start[name], end[name])
            for name, files in self._given_up.items()
        )
        fact = LiveBatch(
            pipeline=pipeline.name,
            run=self.setting.run,
            fingerprint=self._code,
            query=str(self._query.id) if self._query else "",
            batch=batch,
            source_start=start,
            source_end=end,
            stateful=self._nature.stateful,
            watermark=inspector.finished() if self._nature.stateful else None,
            # A file that could not be read counts as one record, and a bad one.
            input_rows=sum(each.get("rows") or 0 for each in counts) + given_up,
            quarantined=sum(each.get("bad") or 0 for each in counts) - dropped + given_up,
            dropped=dropped,
            output_quarantined=output.quarantined,
            output_dropped=output.dropped,
            late=late(pipeline, self._nature, inspector, buckets, late_before),
            touched=touched_ranges(buckets),
            # Rules may change: an interval is known by what was left out of it, too.
            reached=reached(pipeline, sorted({*buckets, *(b for each in left_out for b in each.buckets)})),
            verdicts=self._watched.verdicts(seen),
            reach=edge.reach(shape_of(pipeline)),
            planted=seeds.told(self._seed) if self._nature.fold and not pipeline.recorded else None,
        )
        return self.setting.survey.owing(pipeline, fact) if self.setting.survey else fact

    def _named(self, ends: tuple[Any, ...]) -> Mapping[str, Any]:
        if not self._sources:
            assert self._inspector is not None  # noqa: S101  # the query has started
            self._sources = places_of(self.pipeline, self._inspector.sources())
        return {
            name: {"place": i, "offset": ends[i] if i < len(ends) else None}
            for name, i in self._sources.items()
        }

    def _set_aside(self, batch: int, fact: LiveBatch, aside: tuple[DataFile, ...], seen: Seen) -> LiveBatch:
        for name in self.pipeline.inputs:
            bad = seen.get(observed(name), {}).get("bad") or 0
            how = self._once(name, batch)
            bad -= self._watched.left_out(name, seen).dropped
            if how["again"] or bad > 0:
                fresh = set_aside(self._spark, self.pipeline, name, self.checkpoint, fact, **how)
                if fresh is not None:
                    fact = replace(fact, quarantined=fact.quarantined - bad + fresh)
        how = self._once(OUTPUT, batch)
        if how["again"] or aside:
            set_aside_output(self._spark, self.pipeline, self._table, aside, fact, **how)
        return fact

    def _once(self, of: str, batch: int) -> _Once:
        app = f"{self._app}/{of}"
        # Only a run's first batch can have been tried before, by a run that crashed.
        return {"app": app, "version": batch, "again": not self.batches and tried(self.pipeline, app, batch)}
