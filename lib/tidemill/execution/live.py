"""The live run of one pipeline: a streaming query from start to stop, whose every batch is one commit (:mod:`.batch`)."""

from __future__ import annotations

import threading
from contextlib import suppress

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from tidemill.execution.batch import Batches, Progress
from tidemill.execution.failures import explained
from tidemill.execution.hold import wait_while_held
from tidemill.execution.hush import Hush
from tidemill.execution.ready import Ready, Setting, make_ready
from tidemill.execution.schemas import StartAgain
from tidemill.execution.session import session_of
from tidemill.ledger import index
from tidemill.ledger.carried import Seed
from tidemill.ledger.lease import Lease
from tidemill.model import Pipeline
from tidemill.view import shape_of


class StopBetweenBatches(Exception):  # not an error: how a query is told to end
    """Raised inside the next batch, before it does anything, when the run was asked to stop."""


class LiveRun:
    """One pipeline's streaming query, from start to stop. Holds the pipeline's live lease meanwhile."""

    def __init__(self, spark: SparkSession, pipeline: Pipeline, setting: Setting, lease: Lease) -> None:
        self.pipeline = pipeline
        self.setting = setting
        self._spark = session_of(spark, pipeline)
        self._lease, self._hush = lease, Hush(self._spark)
        self._progress = Progress()
        self._query: StreamingQuery | None = None
        self._batches: Batches | None = None
        self._seed: Seed | None = None
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None

    @property
    def batches(self) -> int:
        """How many it has published."""
        return self._progress.batches

    @property
    def too_great(self) -> int:
        """How many rows it could not send to the pipeline's topic for their size."""
        return self._progress.too_great

    @property
    def active(self) -> bool:
        """Whether the query is running."""
        return self._query is not None and self._query.isActive

    def start(self, *, available_now: bool, every_ms: int | None = None) -> None:
        """Start the query, where table, checkpoint and code fit; raises as :func:`.ready.make_ready` does."""
        checkpoint = f"{self.pipeline.table.state_path}/checkpoint"
        ready = make_ready(self._spark, self.pipeline, self.setting, self._lease.check, checkpoint)
        if ready.outbox is not None:
            # What an earlier run has published, and did not come to send.
            self._progress.too_great += ready.outbox.catch_up(self._lease.check)
        self._seed = ready.known.seed
        self._query = self._begin(ready, available_now=available_now, every_ms=every_ms)
        self._batches = Batches(ready, self._query, self._progress)
        self._started.set()

    def _begin(self, ready: Ready, *, available_now: bool, every_ms: int | None) -> StreamingQuery:
        self._spark.sparkContext.setLocalProperty("spark.scheduler.pool", self.pipeline.name)
        writer = ready.frame.writeStream.foreachBatch(self._safely).queryName(self.pipeline.name)
        writer = writer.option("checkpointLocation", ready.known.checkpoint)
        if available_now:
            writer = writer.trigger(availableNow=True)
        else:
            writer = writer.trigger(processingTime=f"{every_ms or 0} milliseconds")
        return writer.start()

    def wait(self, seconds: float) -> None:
        """Wait until the query has ended, this long at the most; how it has ended is for :meth:`finish` to say."""
        if self._query is not None:
            with suppress(StreamingQueryException):
                self._query.awaitTermination(seconds)  # type: ignore[arg-type]  # it takes parts of a second

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
        self._query = self._batches = None
        del self._spark
        if failure is not None and not isinstance(failure, (StopBetweenBatches, StartAgain)):
            # Who slept through a takeover fails in many ways, for that one reason.
            self._lease.check()
            raise explained(failure, pipeline) from failure
        return str(failure) if isinstance(failure, StartAgain) else None

    def _safely(self, frame: DataFrame, batch: int) -> None:
        # Spark wraps what is raised here in text; the run wants the exception itself.
        try:
            self._run(frame, batch)
        except BaseException as error:
            self._failure = error
            if isinstance(error, (StopBetweenBatches, StartAgain)):
                self._hush.on()
            raise

    def _run(self, frame: DataFrame, batch: int) -> None:
        # Spark may come to the first batch before this run has been told of its query.
        self._started.wait(30)
        wait_while_held(self.pipeline, self._stopping)
        if self._stopping.is_set():
            raise StopBetweenBatches
        if self._seed is not None and batch > self._seed.batch + 1:
            # One batch alone begins anew; the others go another way through Spark.
            raise StartAgain(
                "as a stream like any other: it has taken over the states that its restart had made"
            )
        assert self._batches is not None  # noqa: S101  # the query has started
        self._batches.run(frame, batch)
