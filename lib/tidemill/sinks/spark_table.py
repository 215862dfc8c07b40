"""A Delta table written by Delta's own transaction: for tables whose rules a plain log commit would break.

The same protocol as :class:`tidemill.sinks.table.LogTable`, with the same guarantees, in two steps:

- *Stage* writes the rows through Delta, without a commit: constraints are checked, generated columns filled,
  names mapped. A file's Delta action is kept with it (:attr:`DataFile.action`), through manifests too.
- *Commit* names staged files, and exactly the files to be removed, in one transaction with the fact and the
  application transaction. It reads no rows, so appends beside it neither stop it nor are touched by it; Delta
  refuses when a file was removed or given another deletion vector meanwhile, or another swap came in between.

So a swap is as surgical as on the fast path, and undo puts the very files back, deletion vectors and all, as
long as VACUUM has not taken them and the table's rules are still those that the files were written under.
A file is told apart by its path and its deletion vector together.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from py4j.protocol import Py4JError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from tidemill.errors import PlanError, QualityError, StateError, TransformError
from tidemill.intervals import ALL_LABEL, Grain, interval_at, parse_moment
from tidemill.ledger.facts import LiveBatch, from_json
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile
from tidemill.sinks.jvm import DeltaJvm, is_race
from tidemill.sinks.table import CHECKPOINT_EVERY, AppVersion, Raced

_logger = logging.getLogger(__name__)
_PHYSICAL = "delta.columnMapping.physicalName"
_RULES = ("DELTA_VIOLATE_CONSTRAINT", "DELTA_NOT_NULL_CONSTRAINT", "DELTA_EXCEED_CHAR_VARCHAR_LIMIT")
_SWAPS = "tidemill/swaps"
_FAILURES = (Py4JError, PySparkException)


class SparkTable:
    """One table, seen as of the last refresh. Not thread-safe.

    Raises :class:`StateError` for a table with an identity column: rows computed again would get new numbers,
    and no interval could ever be found equal.
    """

    parts_rows = False

    def __init__(self, spark: SparkSession, path: str, grain: Grain) -> None:
        self.path = path
        self.grain = grain
        self._delta = DeltaJvm(spark, path)
        self._live: tuple[int, dict[str, DataFile]] | None = None
        self.refresh()
        numbered = [f["name"] for f in self._fields if "delta.identity.start" in f["metadata"]]
        if numbered:
            raise StateError(
                f"{path}: the identity column {numbered[0]} numbers rows anew each time they are computed",
                next_step="drop the column, or give the pipeline a table without it",
                table=path,
            )

    @property
    def version(self) -> int:
        """The version as of the last refresh."""
        return int(self._snapshot.version())

    @property
    def schema(self) -> dict[str, Any]:
        """The table's schema, as Spark writes it in JSON."""
        return {"type": "struct", "fields": self._fields}

    @property
    def partition_columns(self) -> list[str]:
        """The columns the table is partitioned by."""
        return list(self._metadata["partitionColumns"])

    @property
    def computed(self) -> frozenset[str]:
        """Generated columns."""
        return frozenset(f["name"] for f in self._fields if "delta.generationExpression" in f["metadata"])

    @property
    def append_only(self) -> bool:
        """Whether rows may never be taken away."""
        return str(self._metadata["configuration"].get("delta.appendOnly", "")).lower() == "true"

    def refresh(self) -> None:
        """See what others have committed."""
        self._snapshot = self._delta.update()
        self._metadata: dict[str, Any] = json.loads(self._snapshot.metadata().json())["metaData"]
        self._fields: list[dict[str, Any]] = json.loads(self._metadata["schemaString"])["fields"]

    def app_version(self, app: str) -> int | None:
        """The greatest version that ``app`` has committed."""
        found = self._snapshot.transactions().get(app)
        return int(found.get()) if found.isDefined() else None

    def live_files(self) -> dict[str, DataFile]:
        """Every live file by path and deletion vector, as of the last refresh."""
        if self._live is None or self._live[0] != self.version:
            self._live = self.version, self._files(self._snapshot)
        return dict(self._live[1])

    def files_at(self, version: int) -> dict[str, DataFile]:
        """Every file that was live at ``version``, by path and deletion vector."""
        return self.live_files() if version == self.version else self._files(self._delta.snapshot_at(version))

    def _files(self, snapshot: Any) -> dict[str, DataFile]:
        files = (self._file(add) for add in self._delta.files(snapshot))
        # A file without an interval is another writer's, and in no swap.
        return {file.path: file for file in files if file is not None}

    def place(self, frame: DataFrame, pipeline: Pipeline) -> DataFrame:
        """The frame with each row's partition value; as it is where the table has no partitions."""
        if pipeline.grain is Grain.ALL:
            return frame
        return frame.withColumn(pipeline.partition_column, _interval(pipeline))

    def stage(self, frame: DataFrame, pipeline: Pipeline) -> tuple[DataFile, ...]:
        """Run a placed frame once and write its rows as the table's own files, uncommitted.

        Raises :class:`QualityError` when a row breaks a rule of the table, :class:`TransformError` when a row
        has no interval. Files that a crash leaves here are VACUUM's to take.
        """
        self.refresh()
        try:
            adds = self._delta.write(self._snapshot, frame)
        except _FAILURES as error:
            raise self._refused(error, pipeline) from error
        files = [self._file(add) for add in adds]
        kept = tuple(file for file in files if file is not None)
        if len(kept) < len(files):
            self.discard(kept)
            raise TransformError(
                f"{pipeline.name}: the transform gave rows whose {pipeline.interval_column!r} is null",
                next_step="filter them, or give them a time, in the transform",
                column=pipeline.interval_column,
            )
        return tuple(file for file in kept if file.rows)

    def _refused(self, error: BaseException, pipeline: Pipeline) -> BaseException:
        line = next((line for line in str(error).splitlines() if any(rule in line for rule in _RULES)), None)
        if line is None:
            return error
        what = line.partition("] ")[2].strip(" :") or line
        return QualityError(
            f"{pipeline.name}: the table refuses a row: {what}",
            next_step="drop or correct such rows in the transform, or change the table's rule; "
            "nothing was published",
            table=self.path,
        )

    def read(self, spark: SparkSession, files: Sequence[DataFile], schema: StructType) -> DataFrame:
        """The rows of staged files, or of files as they were live; columns are those of ``schema``."""
        adds = [self._delta.add_of(_staged(file)["add"]) for file in files]
        return self._delta.frame(spark, self._snapshot, adds).select([f"`{name}`" for name in schema.names])

    def lost(self, files: Iterable[DataFile]) -> list[str]:
        """The paths of files that are gone, or whose deletion vector is."""
        gone = []
        for file in files:
            # Files of a run before this writer was chosen carry no action; their path says all there is to know.
            vector = (
                self._delta.vector_path(self._delta.add_of(_staged(file)["add"])) if file.action else None
            )
            paths = [_bare(file), *([vector] if vector else [])]
            if not all(self._delta.exists(path) for path in paths):
                gone.append(file.path)
        return gone

    def discard(self, files: Iterable[DataFile]) -> None:
        """Delete staged files that no commit names and none will."""
        for file in files:
            self._delta.delete(_bare(file))

    def commit(
        self,
        add: Iterable[DataFile],
        remove: Iterable[DataFile],
        metadata: str,
        app: AppVersion,
        at: int,
        *,
        alone: bool = False,
    ) -> None:
        """One attempt to commit; Delta lets it pass commits by others that do not conflict.

        Raises :class:`Raced` on a conflict, and :class:`PlanError` when a file to be added was staged by the
        other writer, under other rules of the table, or is gone.
        """
        adds, live = tuple(add), self.live_files()
        self._fit(adds)
        fresh = [self._delta.add_of(_staged(file)["add"]) for file in adds]
        stale = [self._delta.add_of(_staged(live[file.path])["add"]) for file in remove]
        actions = [*fresh, *(each.removeWithTimestamp(at, True) for each in stale)]
        mode = "Overwrite" if stale else "Append"
        apps = {app.app: app.version}
        if not isinstance(from_json(metadata), LiveBatch):
            # Swaps look at each other before they commit (a swap of an empty interval removes no file by which
            # Delta could tell); this makes one that came in between a conflict, and lets live appends pass.
            apps[_SWAPS] = (self.app_version(_SWAPS) or 0) + 1
        try:
            self._delta.commit(self._snapshot, actions, metadata, apps, at, mode=mode, alone=alone)
        except _FAILURES as error:
            if is_race(error):
                raise Raced(_first(error)) from error
            raise StateError(f"{self.path}: the commit failed: {_first(error)}", table=self.path) from error

    def _fit(self, adds: Sequence[DataFile]) -> None:
        rules = self._rules()
        if any(file.action is None or _staged(file)["rules"] != rules for file in adds):
            raise PlanError(
                f"{self.path}: the table's rules or features have changed since these files were written",
                next_step="backfill the intervals again; nothing was published",
                table=self.path,
            )
        gone = self.lost(adds)
        if gone:
            raise PlanError(
                f"{self.path}: {len(gone)} of the files to be published are gone, {gone[0]} among them",
                next_step="backfill the intervals again; nothing was published",
                table=self.path,
            )

    def _rules(self) -> str:
        """What decides whether rows of a file may stand in this table."""
        checks = {
            k: v for k, v in self._metadata["configuration"].items() if k.startswith("delta.constraints.")
        }
        text = json.dumps([checks, self._fields], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _file(self, add: Any) -> DataFile | None:
        body: dict[str, Any] = json.loads(add.json())["add"]
        label = self._label(body["partitionValues"])
        if label is None:
            return None
        vector = add.deletionVector()
        path = unquote(body["path"]) + (f"#{vector.uniqueId()}" if vector is not None else "")
        rows = add.numLogicalRecords()
        action = json.dumps({"add": {**body, "dataChange": True}, "rules": self._rules()})
        # Written by someone without statistics: unknown, as LogTable has it.
        count = int(rows.get()) if rows.isDefined() else -1
        return DataFile(path, label, body["size"], count, body["modificationTime"], action=action)

    def _label(self, values: Mapping[str, Any]) -> str | None:
        if self.grain is Grain.ALL:
            return ALL_LABEL
        column = next(f for f in self._fields if f["name"] == self.grain.column)
        value = values.get(column["metadata"].get(_PHYSICAL, self.grain.column))
        return None if value is None else interval_at(self.grain, parse_moment(value)).label

    def checkpoint_sometimes(self) -> None:
        """Every ``CHECKPOINT_EVERY`` commits, write a log checkpoint, should the table's interval be longer."""
        if self.version % CHECKPOINT_EVERY:
            return
        try:
            self._delta.checkpoint()
        except _FAILURES as error:
            # A checkpoint only saves readers' time; the next one will do.
            _logger.warning("no log checkpoint of %s: %s", self.path, error)


def _staged(file: DataFile) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(file.action or "{}")
    return body


def _bare(file: DataFile) -> str:
    """Where the file is, without its deletion vector's name."""
    add = _staged(file).get("add")
    return unquote(add["path"]) if add else file.path


def _first(error: BaseException) -> str:
    """What was thrown, without the stack and without py4j's own first line."""
    thrown = getattr(error, "java_exception", None)
    return str(thrown.toString() if thrown is not None else error).partition("\n")[0]


def _interval(pipeline: Pipeline) -> Column:
    """The partition value of each row's interval."""
    moment = F.col(pipeline.interval_column)
    match pipeline.grain:
        case Grain.HOUR:
            return F.date_trunc("hour", moment)
        case Grain.DAY:
            return F.to_date(moment)
        case Grain.MONTH:
            return F.trunc(F.to_date(moment), "month")
        case Grain.ALL:
            raise AssertionError  # such a table has no partitions
