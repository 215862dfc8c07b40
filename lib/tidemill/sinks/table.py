"""A Delta table as the log sees it: opened, created, its live files, its app transactions. No JVM."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError

from tidemill.errors import PlanError, StateError, StoreError
from tidemill.intervals import ALL_LABEL, Grain, interval_at, parse_moment
from tidemill.ledger import log
from tidemill.model import Pipeline
from tidemill.sinks import commit, writer
from tidemill.sinks.commit import Entry
from tidemill.sinks.files import DataFile, partition_values
from tidemill.storage import (
    ObjectPath,
    Unknown,
    check_conditions,
    delta_options,
    missing,
    of_deltalake,
    parquet,
    place,
    remove_tree,
    walk,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

_PROPERTIES = {
    # Upkeep is tidemill's: a log cleaned behind the index's back would lose facts.
    "delta.enableExpiredLogCleanup": "false",
    # Checkpoints are made beside the batches, see LogTable.checkpoint.
    "delta.checkpointInterval": "1000000",
}
CHECKPOINT_EVERY = 100
_logger = logging.getLogger(__name__)
_CHECKPOINT = (
    "import json, sys; from deltalake import DeltaTable; "
    "DeltaTable(sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)).create_checkpoint()"
)


@dataclass(frozen=True, slots=True)
class AppVersion:
    """An application transaction: the log holds at most one commit of ``app`` with this version or above."""

    app: str
    version: int


class Raced(Exception):  # not an error: the loop's cue to look again
    """Someone committed first. ``perhaps_we``: or this very commit was, and the store's reply to it was lost."""

    def __init__(self, message: str, *, perhaps_we: bool = False) -> None:
        super().__init__(message)
        self.perhaps_we = perhaps_we


class LogTable:
    """One table, seen as of the last refresh or commit.

    What a batch asks (version, application transactions, a commit) costs the same however many commits and files
    the table has: commits by others are read one by one, and files are listed only when they are asked for.

    Not thread-safe. Opening and refreshing raise
    :class:`StateError` when the table has come to need Spark's writer (:mod:`tidemill.sinks.writer`): a plain
    commit goes past CHECK constraints and deletion vectors.
    """

    parts_rows = True

    def __init__(self, path: str, grain: Grain) -> None:
        self.path = path
        self.grain = grain
        self._checkpointing: threading.Thread | None = None
        self._open()

    def _open(self) -> None:
        self._table = look(self.path)
        self.version = self._table.version()
        """The version as of the last refresh or commit."""
        self._apps: dict[str, int | None] = {}
        self._logged: dict[str, str] = {}
        self._metadata = self._table.metadata()
        schema = self._table.schema().to_json()
        self.schema: dict[str, Any] = json.loads(schema)
        """The table's schema, as Spark writes it in JSON."""
        self._check_writer(schema)

    @classmethod
    def create(cls, path: str, grain: Grain, schema: Mapping[str, Any]) -> LogTable:
        """Create the table if nobody has, and open it."""
        at = place(path)
        if not isinstance(at, ObjectPath):
            at.mkdir(parents=True, exist_ok=True)
        make(path, schema, grain.columns)
        return cls(path, grain)

    @classmethod
    def open(cls, path: str, grain: Grain) -> LogTable | None:
        """The table, or None when it has not been created."""
        return cls(path, grain) if log.exists(path) else None

    @property
    def partition_columns(self) -> list[str]:
        """The columns the table is partitioned by."""
        return list(self._metadata.partition_columns)

    @property
    def computed(self) -> frozenset[str]:
        """None: nothing fills a column here but the rows."""
        return frozenset()

    @property
    def append_only(self) -> bool:
        """Whether rows may never be taken away."""
        return str(self._metadata.configuration.get("delta.appendOnly", "")).lower() == "true"

    def refresh(self) -> None:
        """See what others have committed; two looks at the file system when nobody has."""
        while not commit.is_newest(self.path, self.version):
            body = log.commit_text(self.path, self.version + 1)
            found = list(commit.actions(body)) if body is not None else []
            if not found or any(name in {"metaData", "protocol"} for name, _ in found):
                # Upkeep has cleaned the log from under us, or the table is not what it was: look anew.
                self._open()
                return
            self.version += 1
            self._apps |= {each["appId"]: int(each["version"]) for name, each in found if name == "txn"}

    def _check_writer(self, schema: str) -> None:
        protocol = self._table.protocol()
        demands = {
            "minWriterVersion": protocol.min_writer_version,
            "writerFeatures": protocol.writer_features,
            "readerFeatures": protocol.reader_features,
        }
        described = {"configuration": self._metadata.configuration, "schemaString": schema}
        needed = writer.decide(demands, described)
        if needed.kind != "log commit":
            raise StateError(
                f"{self.path}: {needed.why}, which log commits do not honour",
                next_step="start again: the next run takes Spark's Delta writer",
                table=self.path,
            )

    def app_version(self, app: str) -> int | None:
        """The greatest version that ``app`` has committed."""
        if app not in self._apps:
            # Nothing read since the table was opened speaks of it.
            try:
                self._apps[app] = self._table.transaction_version(app)
            except DeltaError:
                # The log was cleaned up past the version that was opened.
                self._open()
                self._apps[app] = self._table.transaction_version(app)
        return self._apps[app]

    def live_files(self) -> dict[str, DataFile]:
        """Every live file by path, as of the last refresh."""
        return self.files_at(self.version)

    def files_at(self, version: int) -> dict[str, DataFile]:
        """Every file that was live at ``version``, by path."""
        table = self._table if self._table.version() == version else look(self.path, version)
        if version == self.version:
            self._table = table
        return {file.path: file for file in self._files(table)}

    def _files(self, table: DeltaTable) -> Iterable[DataFile]:
        actions = table.get_add_actions(flatten=True)
        columns = {name: actions[name].to_pylist() for name in actions.column_names if _wanted(name)}
        times = columns["modification_time"]
        labels = self._labels(columns)
        for path, size, at, rows, label in zip(
            columns["path"], columns["size_bytes"], times, columns["num_records"], labels, strict=True
        ):
            modified = int(at.timestamp() * 1000) if hasattr(at, "timestamp") else int(at)
            # The log encodes paths, each writer in its way; here they are as on disk.
            plain = unquote(path)
            self._logged[plain] = path
            yield DataFile(plain, label, size, rows if rows is not None else -1, modified)

    def _labels(self, columns: Mapping[str, Any]) -> list[str]:
        if self.grain is Grain.ALL:
            return [ALL_LABEL] * len(columns["path"])
        values = columns[f"partition.{self.grain.column}"]
        return [interval_at(self.grain, parse_moment(str(value))).label for value in values]

    def commit(
        self,
        add: Iterable[DataFile],
        remove: Iterable[DataFile],
        metadata: str,
        app: AppVersion,
        at: int,
        *,
        alone: bool = True,
    ) -> None:
        """One attempt to commit on top of the last refresh. Raises :class:`Raced` when that was not the last.

        So each commit here is ``alone``. Raises :class:`PlanError` for files that Spark's writer staged.
        """
        del alone
        add = tuple(add)
        if any(file.action for file in add):
            raise PlanError(
                f"{self.path}: these files were staged for Spark's Delta writer, which the table no longer needs",
                next_step="backfill the intervals again; nothing was published",
                table=self.path,
            )
        if not commit.is_newest(self.path, self.version):
            raise Raced(f"another commit followed {self.version}")
        body = commit.text(
            [self._entry(file, self._stats(file)) for file in add],
            [self._entry(file) for file in remove],
            metadata=metadata,
            app=(app.app, app.version),
            at=at,
            partition_by=self.grain.column,
        )
        try:
            if not commit.put(self.path, self.version + 1, body):
                raise Raced(f"another commit became {self.version + 1}")
        except Unknown as error:
            raise Raced(str(error), perhaps_we=True) from error
        except OSError as error:
            raise StateError(
                f"{self.path}: the commit failed: {error.strerror or error}",
                next_step="the log's folder must be writable, and its file system must have hard links",
                table=self.path,
            ) from error
        self.version += 1
        self._apps[app.app] = app.version

    def _entry(self, file: DataFile, stats: str | None = None) -> Entry:
        # A file that goes must be named as the commit named it that brought it.
        path = self._logged.get(file.path) or commit.as_logged(file.path)
        values = partition_values(self.grain, file.label)
        return Entry(path, file.size, values, file.modified, stats)

    def _stats(self, file: DataFile) -> str:
        # Of a file that was live before, an undo's: the log gives its rows only, the file itself all.
        if file.stats is not None:
            return file.stats
        from tidemill.sinks.stats import read_stats  # loads parquet; status does without

        path = place(self.path) / file.path
        if not path.is_file():
            return json.dumps({"numRecords": file.rows})
        return read_stats(parquet(path), self.schema)[1]

    def place(self, frame: DataFrame, pipeline: Pipeline) -> DataFrame:
        """As :func:`tidemill.sinks.stage.placed`."""
        from tidemill.sinks import stage  # loads Spark, which a look at the log does without

        return stage.placed(frame, pipeline)

    def stage(self, frame: DataFrame, pipeline: Pipeline) -> tuple[DataFile, ...]:
        """As :func:`tidemill.sinks.stage.write`."""
        from tidemill.sinks import stage  # as above

        return stage.write(frame, pipeline, self.schema)

    def read(self, spark: SparkSession, files: Sequence[DataFile], schema: StructType) -> DataFrame:
        """The rows of files, staged or live; columns are those of ``schema``."""
        root = self.path.rstrip("/")
        return spark.read.schema(schema).parquet(*[f"{root}/{file.path}" for file in files])

    def lost(self, files: Iterable[DataFile]) -> list[str]:
        """The paths of those files that are no longer on disk."""
        return missing(self.path, [file.path for file in files])

    def discard(self, files: Iterable[DataFile]) -> None:
        """Delete staged files that no commit names and none will, and an attempt's folder that holds no other."""
        attempts, root = set(), place(self.path)
        for file in files:
            (root / file.path).unlink(missing_ok=True)
            attempts.add(file.path.partition("/")[0])
        for attempt in attempts:
            if not any(file.path.endswith(".parquet") for file in walk(root / attempt)):
                remove_tree(root / attempt)

    def checkpoint_sometimes(self) -> None:
        """Every ``CHECKPOINT_EVERY`` commits, write a log checkpoint beside the work, not in its way.

        In a process of its own: it reads the whole table's files, and this one's memory is not to grow with them.
        """
        if self.version % CHECKPOINT_EVERY or (self._checkpointing and self._checkpointing.is_alive()):
            return
        self._checkpointing = threading.Thread(target=checkpoint, args=(self.path, self.version))
        self._checkpointing.start()


def checkpoint(path: str, version: int) -> None:
    """Write a log checkpoint of a version, in a process of its own; that it fails is only noted."""
    command = [sys.executable, "-c", _CHECKPOINT, path, str(version)]
    # Not among the arguments, which every process may read: the options may hold keys.
    options = json.dumps(delta_options(path))
    done = subprocess.run(command, input=options, capture_output=True, text=True, check=False)
    if done.returncode:
        # A checkpoint only saves readers' time; the next one will do.
        _logger.warning("no log checkpoint of %s: %s", path, done.stderr.strip().rpartition("\n")[2][:200])


def make(path: str, schema: Mapping[str, Any], partition_by: list[str]) -> None:
    """Make a table where there is none. On a store the reply may be lost: then it is there all the same.

    Raises :class:`StoreError` where the store ignores the conditions of writes.
    """
    check_conditions(path)
    try:
        with of_deltalake(path):
            DeltaTable.create(
                path,
                Schema.from_json(json.dumps(schema)),
                mode="ignore",
                partition_by=partition_by,
                configuration=_PROPERTIES,
                storage_options=delta_options(path),
            )
    except StoreError:
        if not log.exists(path):
            raise


def look(path: str, version: int | None = None) -> DeltaTable:
    """The table at a version, the newest by default.

    By its number: a folder that is being added to may be listed with a later commit and without the one before, but
    what came before a commit that is there is listed.
    """
    wanted = log.last_version(path) if version is None else version
    with of_deltalake(path):
        return DeltaTable(path, version=wanted, storage_options=delta_options(path))


def _wanted(name: str) -> bool:
    return name in {"path", "size_bytes", "modification_time", "num_records"} or name.startswith("partition.")
