"""What a live run does besides, where its pipeline decides: it goes on from where aggregates stand, deals out positions, and
brings what was refused to the table of rejections.

A batch's events and refusals are staged by one job, in files of their own. One commit publishes the events, and names the
folder of the refusals: from then on they are said. Only then are their files brought to the table of rejections, under the
batch's number; a crash before that is made good by the next start. So no reader of rejections sees one that was not to be.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.config import Project
from tidemill.deciding.frame import BASE, LANES, POSITION
from tidemill.deciding.seeds import WHOLE, Seed, plant
from tidemill.errors import ConfigError, StateError
from tidemill.eventsourcing.envelope import COMMAND_COLUMNS, EVENT_COLUMNS
from tidemill.ledger import inputs, log
from tidemill.ledger.facts import LiveBatch
from tidemill.ledger.whole import replace_text
from tidemill.model import Pipeline
from tidemill.protocol import Point, passing
from tidemill.quality.watch import SET_ASIDE
from tidemill.sinks import stage
from tidemill.sinks.files import DataFile, partition_type, rows_by_label
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion, LogTable, look
from tidemill.storage import on_a_store, place, remove_tree, walk
from tidemill.transforms.apply import load_domain

Guard = Callable[[], None]
_TYPES = {"INT": "integer", "BIGINT": "long"}


@dataclass
class Decisions:
    """One run's. Made before its transform is, by :meth:`opened`; ``seed`` is what the transform goes on from."""

    spark: SparkSession
    pipeline: Pipeline
    seed: Seed
    refused: LogTable | None = None
    base: int = 0

    @classmethod
    def opened(
        cls, spark: SparkSession, pipeline: Pipeline, root: str, code: str, guard: Guard
    ) -> Decisions | None:
        """None where a pipeline decides nothing. Brings rejections up to date, and makes a seed where one is needed.

        Raises :class:`ConfigError` for a table on a store.
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
        deliver(pipeline, guard)
        return cls(spark, pipeline, seeded(spark, pipeline, root, code, guard))

    def split(self, output: DataFrame) -> tuple[DataFrame, DataFrame]:
        """The rows that the table's schema is of; and all rows, with those marked that are refusals."""
        marked = output.withColumn(SET_ASIDE, F.col("kind").isNotNull())
        self._wanted = stage.table_schema(output, self.pipeline)
        return output.select(*EVENT_COLUMNS, POSITION), marked

    def begin(self) -> None:
        """Make the table of rejections, if nobody has, and look up the last position. After the event store is there."""
        path = self.pipeline.rejections_path
        if not log.exists(path):
            LogTable.create(path, self.pipeline.grain, self._wanted)
        self.refused = LogTable(path, self.pipeline.grain)
        self.base = max(_last_position(self.pipeline.table.path), _last_position(path)) + 1

    def before(self) -> None:
        """Say where the positions of the batch begin that is run next."""
        # A batch begins in the first lane: then no two rows share a position, whichever tasks they are of.
        self.base += -self.base % LANES
        self.spark.sparkContext.setLocalProperty(BASE, str(self.base))

    def staged(self, fact: LiveBatch, files: Iterable[DataFile], aside: tuple[DataFile, ...]) -> LiveBatch:
        """The fact, with where the refusals are."""
        self.base = max([self.base, *(_greatest(file) + 1 for file in (*files, *aside))])
        if not aside:
            return fact
        return replace(fact, refused=f"{aside[0].path.partition('/')[0]}/{SET_ASIDE}=true")

    def deliver(self, fact: LiveBatch, guard: Guard) -> None:
        """Bring the refusals of a published batch to their table."""
        if fact.refused is not None and self.refused is not None:
            _deliver(self.pipeline, self.refused, fact, guard)


def make_inputs(project: Project, pipelines: Iterable[Pipeline]) -> None:
    """Make, empty, the tables that sagas of event stores among the pipelines have yet to write: a saga reads the store whose
    commands it writes, and one of the two comes first.
    """
    for pipeline in pipelines:
        mine = {pipeline.table.path, pipeline.rejections_path}
        for each in pipeline.inputs.values() if pipeline.recorded else ():
            saga = project.writer_of(each.delta.path) if each.delta is not None else None
            if saga is None or log.exists(saga.table.path):
                continue
            if any(read.delta is not None and read.delta.path in mine for read in saga.inputs.values()):
                columns = {**COMMAND_COLUMNS, saga.partition_column: partition_type(saga.grain)}
                fields = [
                    {"name": name, "type": _TYPES.get(kind, kind.lower()), "nullable": True, "metadata": {}}
                    for name, kind in columns.items()
                ]
                LogTable.create(saga.table.path, saga.grain, {"type": "struct", "fields": fields})


def deliver(pipeline: Pipeline, guard: Guard | None = None) -> None:
    """Bring the last published batch's refusals to their table, where a crash came first. No JVM."""
    if not pipeline.recorded or not log.exists(pipeline.table.path):
        return
    fact = _last_batch(pipeline)
    if fact is None or fact.refused is None or not log.exists(pipeline.rejections_path):
        return
    _deliver(pipeline, LogTable(pipeline.rejections_path, pipeline.grain), fact, guard)


def _deliver(pipeline: Pipeline, table: LogTable, fact: LiveBatch, guard: Guard | None) -> None:
    table.refresh()
    app = AppVersion(f"tidemill/{pipeline.name}/{fact.query}/rejections", fact.batch)
    done = table.app_version(app.app)
    root, folder = Path(pipeline.table.path), str(fact.refused)
    if done is None or done < fact.batch:
        attempt = folder.partition("/")[0]
        for file in walk(root / folder):
            target = Path(table.path) / attempt / file.path
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
                shutil.copyfile(root / folder / file.path, hidden)
                hidden.replace(target)
        moved = pipeline.model_copy(
            update={
                "sink": pipeline.sink.model_copy(
                    update={"delta": pipeline.table.model_copy(update={"path": table.path})}
                )
            }
        )
        files = stage.measure(moved, attempt, table.schema)
        if not files:
            raise StateError(
                f"{root / folder} holds the rejections of batch {fact.batch}, and is empty",
                next_step="restore it from a backup; without it these commands have no outcome",
                folder=folder,
            )
        passing(Point.REFUSALS_COPIED)
        counted = replace(fact, added=rows_by_label(files), removed={}, reached=(), refused=None)
        publish(table, Change(files, (), counted, app), guard)
    remove_tree(place(str(root / folder)))


def seeded(spark: SparkSession, pipeline: Pipeline, root: str, code: str, guard: Guard | None = None) -> Seed:
    """Today's code, and where aggregates are looked up whose states in the stream's store are not of it.

    ``guard`` is asked before anything that another start may have made is replaced: to plant takes its time.
    """
    path = place(pipeline.table.state_path) / "decided.json"
    known: dict[str, Any] = {}
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
    begun = inputs.query_id(f"{pipeline.table.state_path}/checkpoint") is not None
    planted = known.get("folder") is None or (place(known["folder"]) / WHOLE).is_file()
    if begun and known.get("code") == code and planted:
        return Seed(known["name"], known["folder"])
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
    replace_text(path, json.dumps({"code": code, "name": seed.code, "folder": seed.folder}))
    for old in (place(f"{pipeline.table.state_path}/seeds")).glob("*"):
        if old.name != seed.code:
            remove_tree(old)
    return seed


def _holds_anything(pipeline: Pipeline) -> bool:
    """Whether anything was decided. Raises :class:`StateError` where the table of rejections has gone."""
    store, refused = pipeline.table.path, pipeline.rejections_path
    there = [each for each in (store, refused) if log.exists(each)]
    if refused not in there and store in there and look(store).file_uris():
        raise StateError(
            f"{pipeline.name}: {store} holds events, and {refused} is not there: what was refused is not known",
            next_step="restore it beside the store; without it refused commands would be decided again",
            table=refused,
        )
    return len(there) == 2 and any(look(each).file_uris() for each in there)


def _last_batch(pipeline: Pipeline) -> LiveBatch | None:
    """The fact of the newest live batch in the store's log; few commits by others follow it."""
    path = pipeline.table.path
    last, first = log.last_version(path), log.first_version(path)
    for version in range(last or 0, (first or 0) - 1, -1):
        commit = log.commit_at(path, version, pipeline.grain)
        if commit is not None and isinstance(commit.fact, LiveBatch):
            return commit.fact
    return None


def _last_position(path: str) -> int:
    """The greatest position that the files of a table speak of."""
    table = look(path).get_add_actions(flatten=True)
    if f"max.{POSITION}" not in table.column_names:
        return -1
    return max((each for each in table[f"max.{POSITION}"].to_pylist() if each is not None), default=-1)


def _greatest(file: DataFile) -> int:
    return int((json.loads(file.stats or "{}").get("maxValues") or {}).get(POSITION, -1))
