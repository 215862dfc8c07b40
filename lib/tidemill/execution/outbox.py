"""Sends what the live stream appends to its table to a topic, too: at least once, each row under one id.

The table's log is the outbox. A batch is committed first; then its rows are read back from the files of that commit, and sent;
then the commit is noted as sent. A crash between any two leaves the rows in the log and not noted: the next start
sends them before it does anything else. So nothing is sent that the table does not hold, nothing that it holds is left
out, and what is sent twice has the same id both times, for a commit's files do not change.

Only the stream's own batches are sent. What a backfill changes, or someone else writes, is not: a message cannot be taken back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from py4j.protocol import Py4JError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from tidemill.errors import PlanError, SendError, StateError
from tidemill.ledger import log, sent
from tidemill.ledger.facts import Commit, LiveBatch
from tidemill.model import Pipeline, TopicSink
from tidemill.protocol import Point, passing
from tidemill.sinks import topic, writer
from tidemill.sinks.tables import Table
from tidemill.sources import kafka_offsets
from tidemill.sources.kafka_admin import masked
from tidemill.storage import missing


@dataclass(frozen=True, slots=True)
class Outbox:
    """A pipeline's topic, and the table whose log it is fed from."""

    spark: SparkSession
    pipeline: Pipeline
    table: Table
    sink: TopicSink
    limit: int

    @classmethod
    def open(cls, spark: SparkSession, pipeline: Pipeline, table: Table) -> Outbox | None:
        """The pipeline's outbox; None where it has no topic. From its first start on, appended rows are sent.

        Raises :class:`SourceError` when the broker does not answer or has no such topic, :class:`PlanError` for a table
        whose rows cannot be read file by file.
        """
        sink = pipeline.sink.kafka
        if sink is None:
            return None
        chosen = writer.choose(pipeline.table.path)
        if chosen.kind == "spark":
            raise PlanError(
                f"{pipeline.name}: {chosen.why}; the files of such a commit are not its rows, and cannot be sent",
                next_step="take sink.kafka away, or give the pipeline a new table",
            )
        limit = topic.most_bytes(sink, kafka_offsets.most_bytes(spark, sink))
        found = cls(spark, pipeline, table, sink, limit)
        topic.check_key(found._schema(), sink)
        state, path = pipeline.table.state_path, pipeline.table.path
        if sent.read(state, path, sink.topic) is None:
            sent.write(state, path, sink.topic, table.version)
        return found

    def catch_up(self, guard: Callable[[], None]) -> int:
        """Send what was committed and not yet sent, commit by commit; give how many rows were too great to be sent.

        ``guard`` raises when this process may not go on. Raises :class:`SendError` when the broker does not take them
        for as long as its client tries (about two minutes, unless the options say otherwise).
        """
        state, path = self.pipeline.table.state_path, self.pipeline.table.path
        done = sent.read(state, path, self.sink.topic)
        too_great = 0
        for commit in log.commits_after(path, -1 if done is None else done, self.pipeline.grain):
            guard()
            if isinstance(commit.fact, LiveBatch) and commit.fact.added:
                too_great += self._send(commit, commit.fact)
                passing(Point.ROWS_SENT)
            sent.write(state, path, self.sink.topic, commit.version)
        return too_great

    def _send(self, commit: Commit, fact: LiveBatch) -> int:
        paths = _added(self.pipeline.table.path, commit.version)
        gone = missing(self.pipeline.table.path, paths)
        if gone:
            raise StateError(
                f"{self.pipeline.name}: {len(gone)} file(s) of version {commit.version} are gone, and their rows were not "
                f"sent to {self.sink.topic}",
                next_step="send them by hand from the table if they are wanted, and write the version into sent.json in "
                f"{self.pipeline.table.state_path}",
                version=commit.version,
            )
        origin = f"{fact.pipeline}/{fact.query}/{fact.batch}"
        found = topic.messages(self.spark, self.pipeline.table.path, paths, self._schema(), self.sink, origin)
        try:
            too_great = topic.send(found, self.sink, self.limit)
        except (PySparkException, Py4JError) as error:
            raise self._refused(commit, error) from error
        if too_great:
            # Only now does a job of its own look for them. A crash before it sends the commit's rows again.
            self._keep(found.where(F.col("bytes") > self.limit), commit)
        return too_great

    def _keep(self, rows: DataFrame, commit: Commit) -> None:
        """Note the messages that the topic does not take, once for a commit. Their rows are in the table all the same; of a
        pipeline that opens fields of persons they are there alone, where an erasure reaches them.
        """
        if self.pipeline.holds_opened:
            rows = rows.withColumns(
                {name: F.lit(None).cast(rows.schema[name].dataType) for name in ("key", "value")}
            )
        rows = rows.select(
            F.lit(self.sink.topic).alias("topic"),
            "id",
            "key",
            "value",
            F.col("bytes").cast("long").alias("bytes"),
            F.lit(self.limit).cast("long").alias("most_bytes"),
            F.lit(commit.version).cast("long").alias("version"),
            F.current_timestamp().alias("at"),
        )
        saved = rows.write.format("delta").mode("append").option("txnVersion", commit.version)
        saved = saved.option("txnAppId", f"tidemill/{self.pipeline.name}/unsent/{self.sink.topic}")
        saved.save(self.pipeline.unsent_path)

    def _schema(self) -> StructType:
        fields = [
            each for each in self.table.schema["fields"] if each["name"] != self.pipeline.partition_column
        ]
        return StructType.fromJson({"type": "struct", "fields": fields})

    def _refused(self, commit: Commit, error: Exception) -> SendError:
        text = str(error)
        cause = next((line for line in reversed(text.splitlines()) if "Exception:" in line), text)
        return SendError(
            f"{self.pipeline.name}: {self.sink.topic} at {self.sink.servers} did not take the rows of version "
            f"{commit.version}: {masked(cause.strip()[:300], self.sink)}",
            next_step="the table holds them; start again when the broker takes rows, and they are sent first",
            topic=self.sink.topic,
            servers=self.sink.servers,
            version=commit.version,
        )


def _added(table: str, version: int) -> list[str]:
    text = log.commit_text(table, version) or ""
    adds = (json.loads(line)["add"] for line in text.splitlines() if line.startswith('{"add"'))
    return [unquote(each["path"]) for each in adds]
