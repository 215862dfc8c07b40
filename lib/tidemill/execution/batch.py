"""One batch of a live run after the other: each is one commit.

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

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypedDict

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from tidemill.errors import QualityError, SourceError, StateError
from tidemill.execution.batch_fact import Facts
from tidemill.execution.brokers import note_read
from tidemill.execution.counts import check_counts
from tidemill.execution.fits import check_follows, check_same
from tidemill.execution.quarantine import set_aside, set_aside_output, tried
from tidemill.execution.ready import Ready
from tidemill.execution.rules import judged_batch, refuse
from tidemill.execution.schemas import StartAgain, check_batch
from tidemill.ledger import index
from tidemill.ledger.facts import LiveBatch
from tidemill.protocol import Point, passing
from tidemill.quality.watch import OUTPUT, Seen
from tidemill.sinks import stage
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import appended, publish
from tidemill.sinks.rows import stage_rows
from tidemill.sinks.table import AppVersion
from tidemill.sinks.upsert import publish_merged
from tidemill.sources.live import observed
from tidemill.view import shape_of

_INDEX_EVERY = 50


@dataclass(slots=True)
class Progress:
    """How far a run has come: batches that it has published, and rows that were too great for the topic."""

    batches: int = 0
    too_great: int = 0


class _Once(TypedDict):
    app: str
    version: int
    again: bool


class Batches:
    """The batches of one query."""

    def __init__(self, ready: Ready, query: StreamingQuery, progress: Progress) -> None:
        self._ready, self._known, self._progress = ready, ready.known, progress
        self._pipeline, self._table = ready.known.pipeline, ready.table
        self._coverage = ready.known.coverage
        self._facts = Facts(ready, query)
        self._app = f"tidemill/{self._pipeline.name}/{query.id}"

    def run(self, frame: DataFrame, batch: int) -> None:
        """Run a batch and publish it; nothing is written where it was published before."""
        passing(Point.OFFSETS_WRITTEN)
        self._table.refresh()
        if self._published(frame, batch):
            return
        persons = self._known.setting.watch.before(self._table.version)
        staged = self._stage(frame)
        passing(Point.FILES_STAGED)
        rows, states = stage.without_states(staged)
        files, aside = stage.parted(rows)
        seen = self._facts.seen()
        fact = self._facts.of(batch, seen)
        note_read(self._known.spark, self._pipeline, fact.source_start, fact.source_end, seen)
        verdicts = judged_batch(self._pipeline, self._table, files, fact.verdicts)
        fact = replace(fact, verdicts=verdicts, **persons)
        if self._ready.decisions:
            # What was refused is no row that was set aside: it has a table of its own.
            fact, aside = self._ready.decisions.staged(fact, files, aside), ()
        self._judge(fact, seen, staged)
        check_counts(self._pipeline, fact, files, aside, self._known.watched.left_out(OUTPUT, seen).rows)
        fact = self._keep_beside(fact, aside, states, seen)
        self._publish(fact, files)
        self._progress.batches += 1
        self._refresh_index()
        passing(Point.BATCH_PUBLISHED)
        if self._ready.outbox is not None:
            self._progress.too_great += self._ready.outbox.catch_up(self._known.guard)

    def _published(self, frame: DataFrame, batch: int) -> bool:
        """Whether the batch was published before; where state is kept, that is made again."""
        done, decisions = self._table.app_version(self._app), self._ready.decisions
        check_follows(self._pipeline, done, batch)
        if done != batch:
            return False
        check_same(self._pipeline, self._coverage, batch, self._facts.ends(batch))
        if self._ready.nature.stateful:
            with decisions.again(self._app, batch) if decisions else nullcontext():
                frame.write.format("noop").mode("overwrite").save()
        return True

    def _stage(self, frame: DataFrame) -> tuple[DataFile, ...]:
        if self._ready.decisions:
            self._ready.decisions.before()
        if self._pipeline.table.mode == "upsert":
            return stage_rows(self._table, frame, self._pipeline)
        return self._table.stage(frame, self._pipeline)

    def _judge(self, fact: LiveBatch, seen: Seen, staged: tuple[DataFile, ...]) -> None:
        """Raise what forbids that the batch is published; what it has staged is deleted then."""
        try:
            self._known.setting.watch.sealed()
            check_batch(self._known.spark, self._pipeline, self._known.schemas, seen)
            refuse(self._pipeline, fact.verdicts, f"batch {fact.batch}", live=True)
        except (QualityError, SourceError, StateError, StartAgain):
            self._table.discard(staged)
            raise

    def _keep_beside(
        self, fact: LiveBatch, aside: tuple[DataFile, ...], states: tuple[DataFile, ...], seen: Seen
    ) -> LiveBatch:
        """Commit what has to be there before the batch is: its bad rows, and states at interval ends."""
        # A run's first batch may have set rows aside before, which today's rules would let on.
        first = not self._progress.batches
        if fact.quarantined or fact.output_quarantined or first:
            fact = self._set_aside(fact, aside, seen)
            passing(Point.BAD_ROWS_SET_ASIDE)
        if self._ready.states is not None:
            fact = self._ready.states.kept(fact, states, again=first)
        return fact

    def _set_aside(self, fact: LiveBatch, aside: tuple[DataFile, ...], seen: Seen) -> LiveBatch:
        known, pipeline = self._known, self._pipeline
        for name in pipeline.inputs:
            how = self._once(name, fact.batch)
            bad = seen.get(observed(name), {}).get("bad") or 0
            bad -= known.watched.left_out(name, seen).dropped
            if how["again"] or bad > 0:
                fresh = set_aside(known.spark, pipeline, name, known.checkpoint, fact, bad, **how)
                if fresh is not None:
                    fact = replace(fact, quarantined=fact.quarantined - bad + fresh)
        how = self._once(OUTPUT, fact.batch)
        if how["again"] or aside:
            set_aside_output(known.spark, pipeline, self._table, aside, fact, **how)
        return fact

    def _once(self, of: str, batch: int) -> _Once:
        app = f"{self._app}/{of}"
        # Only a run's first batch can have been tried before, by a run that crashed.
        again = not self._progress.batches and tried(self._pipeline, app, batch)
        return {"app": app, "version": batch, "again": again}

    def _publish(self, fact: LiveBatch, files: tuple[DataFile, ...]) -> None:
        known, app = self._known, AppVersion(self._app, fact.batch)
        if self._pipeline.table.mode == "upsert":
            schema = self._ready.schema
            publish_merged(known.spark, self._pipeline, self._table, schema, files, fact, app, known.guard)
        else:
            self._append(fact, files, app)
        if self._ready.decisions:
            self._ready.decisions.deliver(fact, known.guard)

    def _append(self, fact: LiveBatch, files: tuple[DataFile, ...], app: AppVersion) -> None:
        def guard() -> None:
            self._known.guard()
            self._known.unheard.check(self._table)

        try:
            published = publish(self._table, appended(files, fact, app), guard)
        except StartAgain:
            self._table.discard(files)
            raise
        if not published.already:
            self._known.unheard.published()

    def _refresh_index(self) -> None:
        """Now and then, so that who asks for the coverage meanwhile has few commits to fold."""
        if self._progress.batches % _INDEX_EVERY == 0:
            of, table = shape_of(self._pipeline), self._pipeline.table
            self._coverage = index.refresh(table.path, table.state_path, of, self._coverage)
