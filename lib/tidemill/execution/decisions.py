"""What a live run does besides, where its pipeline decides: it goes on from where aggregates stand, deals out positions, and
brings what was refused to the table of rejections.

A batch's events and refusals are staged by one job, in files of their own. One commit publishes the events, and names the
folder of the refusals: from then on they are said. Only then are their files brought to the table of rejections, under the
batch's number; a crash before that is made good by the next start. So no reader of rejections sees one that was not to be.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.deciding.fold import AGAIN
from tidemill.deciding.frame import BASE, LANES, POSITION
from tidemill.deciding.seeds import WHOLE, Seed, plant
from tidemill.errors import ConfigError, StateError
from tidemill.eventsourcing.envelope import EVENT_COLUMNS
from tidemill.execution import resume
from tidemill.execution.refusals import (
    Whole,
    bring,
    check_rejections,
    coverage_of_refusals,
    deliver,
    last_batch,
)
from tidemill.execution.schemas import StartAgain
from tidemill.ledger import inputs, log
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import LiveBatch
from tidemill.model import Pipeline
from tidemill.protocol import Point, passing
from tidemill.quality.watch import SET_ASIDE
from tidemill.sinks import stage
from tidemill.sinks.files import DataFile
from tidemill.sinks.table import LogTable, look
from tidemill.sinks.tables import Table
from tidemill.sinks.target import of_log_commits
from tidemill.storage import on_a_store, place, remove_tree
from tidemill.transforms.apply import load_domain

Guard = Callable[[], None]
FORM = 2
"""Of the states of a stream that decides: 1 kept the ids of an aggregate's commands with it."""


@dataclass
class Decisions:
    """One run's. Made before its transform is, by :meth:`opened`; ``seed`` is what the transform goes on from."""

    spark: SparkSession
    pipeline: Pipeline
    seed: Seed
    counted: Mapping[str, int]
    """The versions at which the tables were found whole."""
    last: tuple[str, int]
    """The last batch that was published as the run began: by which application, and its number."""
    refused: LogTable | None = None
    base: int = 0
    whole: list[Whole] = field(default_factory=list)

    @classmethod
    def opened(
        cls, spark: SparkSession, pipeline: Pipeline, coverage: Coverage, root: str, code: str, guard: Guard
    ) -> Decisions | None:
        """None where a pipeline decides nothing. Brings rejections up to date, and makes a seed where one is needed.

        Raises :class:`ConfigError` for a table on a store, :class:`StateError` for tables that have lost rows, or that need
        Spark's writer.
        """
        if pipeline.decides is None:
            return None
        if on_a_store(pipeline.table.path) or on_a_store(pipeline.table.state_path):
            raise ConfigError(
                f"{pipeline.name}: an event store is kept on a file system so far, and {pipeline.table.path} is on a store",
                next_step="name a path of a file system",
            )
        # A batch without commands would decide nothing, whatever the watermark.
        spark.conf.set("spark.sql.streaming.noDataMicroBatches.enabled", "false")
        what = f"{pipeline.name} decides"
        for path in (pipeline.table.path, pipeline.rejections_path):
            of_log_commits(path, what)
        check_rejections(pipeline)
        deliver(pipeline, guard)
        counted: dict[str, int] = {}
        # Before anything is folded of them.
        for path in (pipeline.table.path, pipeline.rejections_path):
            if log.exists(path):
                known = coverage if path == pipeline.table.path else coverage_of_refusals(pipeline)
                counted[path] = Whole.of(LogTable(path, pipeline.grain), known).version
        last = (f"tidemill/{pipeline.name}/{coverage.query}", coverage.batch)
        return cls(spark, pipeline, seeded(spark, pipeline, coverage, root, code, guard), counted, last)

    def split(self, output: DataFrame) -> tuple[DataFrame, DataFrame]:
        """The rows that the table's schema is of; and all rows, with those marked that are refusals."""
        marked = output.withColumn(SET_ASIDE, F.col("kind").isNotNull())
        self._wanted = stage.table_schema(output, self.pipeline)
        return output.select(*EVENT_COLUMNS, POSITION), marked

    def begin(self, table: Table) -> None:
        """Make the table of rejections, if nobody has, and look up the last position. ``table``: the event store."""
        path = self.pipeline.rejections_path
        if not log.exists(path):
            LogTable.create(path, self.pipeline.grain, self._wanted)
        self.refused = LogTable(path, self.pipeline.grain)
        self.base = max(_last_position(self.pipeline.table.path), _last_position(path)) + 1
        if isinstance(table, LogTable):
            tables = (table, self.refused)
            self.whole = [Whole(each, self.counted.get(each.path, each.version)) for each in tables]

    def before(self) -> None:
        """Say where the positions of the batch begin that is run next. The store is as of its last refresh."""
        if self.refused is not None:
            self.refused.refresh()
        for each in self.whole:
            each.check()
        # A batch begins in the first lane: then no two rows share a position, whichever tasks they are of.
        self.base += -self.base % LANES
        self.spark.sparkContext.setLocalProperty(BASE, str(self.base))

    @contextmanager
    def again(self, app: str, batch: int) -> Iterator[None]:
        """In here Spark makes a batch again that is published: nothing is decided, whatever code and input rules are now.

        Raises :class:`StartAgain` where the batch was published since, by a driver that had lost its
        lease: what the run has folded and numbered lacks it.
        """
        if self.last != (app, batch):
            raise StartAgain("from what another driver has decided, which came first")
        self.spark.sparkContext.setLocalProperty(AGAIN, "yes")
        try:
            yield
        finally:
            self.spark.sparkContext.setLocalProperty(AGAIN, "")

    def staged(self, fact: LiveBatch, files: Iterable[DataFile], aside: tuple[DataFile, ...]) -> LiveBatch:
        """The fact, with where the refusals are."""
        self.base = max([self.base, *(_greatest(file) + 1 for file in (*files, *aside))])
        if not aside:
            return fact
        return replace(fact, refused=f"{aside[0].path.partition('/')[0]}/{SET_ASIDE}=true")

    def deliver(self, fact: LiveBatch, guard: Guard) -> None:
        """Bring the refusals of a published batch to their table. The store is as of its last commit.

        Raises :class:`StartAgain` where the batch was published by another driver, who lost its lease on the way: what counts
        is what that one has decided, and the states of this stream are not of it.
        """
        store = self.whole[0].table
        won = last_batch(self.pipeline, store.version)
        if won is None or (won.query, won.batch, won.run, won.refused) != (
            fact.query,
            fact.batch,
            fact.run,
            fact.refused,
        ):
            guard()
            raise StartAgain("from what another driver has decided, which came first")
        if fact.refused is not None and self.refused is not None:
            bring(self.pipeline, self.refused, fact, guard)


def seeded(
    spark: SparkSession,
    pipeline: Pipeline,
    coverage: Coverage,
    root: str,
    code: str,
    guard: Guard | None = None,
) -> Seed:
    """Today's code, and where aggregates are looked up whose states in the stream's store are not of it.

    ``guard`` is asked before anything that another start may have made is replaced: to plant takes its time. Raises
    :class:`StateError` for states of an older form.
    """
    checkpoint = f"{pipeline.table.state_path}/checkpoint"
    known, begun = resume.noted(pipeline), inputs.begun(checkpoint)
    if begun and known is not None:
        _check_form(pipeline, known)
        planted = known.folder is None or (place(known.folder) / WHOLE).is_file()
        # A published batch that Spark makes again decides nothing then: states have to come from its events.
        again = inputs.committed(checkpoint) < coverage.batch
        if known.code == code and planted and not again:
            return Seed(known.name, known.folder)
    anew = known.anew if known is not None else None
    if resume.is_lost(pipeline, coverage) and coverage.query is not None:
        anew = resume.Anew(coverage.query, resume.now(spark))
    # The name is new each time: states that this very code made under a checkpoint that is lost are not of it.
    seed = Seed(f"{code}-{secrets.token_hex(4)}", None)
    if _holds_anything(pipeline):
        folder = f"{pipeline.table.state_path}/seeds/{seed.code}"
        events, refused = (
            spark.read.format("delta").load(each) for each in (pipeline.table.path, pipeline.rejections_path)
        )
        plant(events, refused, load_domain(str(pipeline.decides), root), folder)
        seed = Seed(seed.code, folder)
    passing(Point.SEED_PLANTED)
    if guard is not None:
        guard()
    resume.note(pipeline, resume.Noted(code, seed.code, seed.folder, FORM, anew))
    for old in (place(f"{pipeline.table.state_path}/seeds")).glob("*"):
        if old.name != seed.code:
            remove_tree(old)
    return seed


def _check_form(pipeline: Pipeline, known: resume.Noted) -> None:
    if known.form != FORM:
        checkpoint = f"{pipeline.table.state_path}/checkpoint"
        raise StateError(
            f"{pipeline.name}: the states in {checkpoint} are of form {known.form}, and this tidemill writes form {FORM}",
            next_step=f"move {checkpoint} away and start again: the store knows each of its commands, and where to read on",
            checkpoint=checkpoint,
        )


def _holds_anything(pipeline: Pipeline) -> bool:
    """Whether anything was decided."""
    there = [each for each in (pipeline.table.path, pipeline.rejections_path) if log.exists(each)]
    return len(there) == 2 and any(look(each).file_uris() for each in there)


def _last_position(path: str) -> int:
    """The greatest position that the files of a table speak of."""
    table = look(path).get_add_actions(flatten=True)
    if f"max.{POSITION}" not in table.column_names:
        return -1
    return max((each for each in table[f"max.{POSITION}"].to_pylist() if each is not None), default=-1)


def _greatest(file: DataFile) -> int:
    return int((json.loads(file.stats or "{}").get("maxValues") or {}).get(POSITION, -1))
