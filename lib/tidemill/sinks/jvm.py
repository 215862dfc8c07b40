"""Delta's own classes in the JVM, by py4j: what :mod:`tidemill.sinks.spark_table` needs, and what reads a stream's files again.

These classes are Delta's internals. Delta is pinned to one version, and the contract tests of the Spark writer and of what
is set aside exercise every call made here, so that a new version shows what it changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyspark.sql import DataFrame, SparkSession

_DELTA = "org.apache.spark.sql.delta"
_RACES = frozenset(
    {
        "ConcurrentAppendException",
        "ConcurrentDeleteDeleteException",
        "ConcurrentDeleteReadException",
        "ConcurrentTransactionException",
        "ConcurrentWriteException",
        "MetadataChangedException",
        "ProtocolChangedException",
    }
)


class DeltaJvm:
    """Delta's log of one table, in the JVM of a session."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        jvm: Any = spark._jvm  # noqa: SLF001  Delta has no Python API below whole tables
        self._jvm = jvm
        self.none: Any = jvm.scala.Option.empty()
        self._log = self._object(f"{_DELTA}.DeltaLog$").forTable(_session(spark), path)
        self._actions = self._object(f"{_DELTA}.actions.Action$")

    def _object(self, name: str) -> Any:
        found = self._jvm
        for part in name.split("."):
            found = getattr(found, part)
        return getattr(found, "MODULE$")

    def some(self, value: Any) -> Any:
        """A Scala Some."""
        return self._jvm.scala.Option.apply(value)

    def seq(self, values: Iterable[Any]) -> Any:
        """A Scala Seq."""
        many = self._jvm.java.util.ArrayList()
        for value in values:
            many.add(value)
        return self._jvm.scala.jdk.javaapi.CollectionConverters.asScala(many).toSeq()

    def update(self) -> Any:
        """The newest snapshot."""
        return self._log.update(False, self.none, self.none)

    def snapshot_at(self, version: int) -> Any:
        """The snapshot of one version."""
        return self._log.getSnapshotAt(version, self.none, self.none, False)

    def checkpoint(self) -> None:
        """Write a log checkpoint of the newest version."""
        self._log.checkpoint()

    def files(self, snapshot: Any) -> list[Any]:
        """A snapshot's live files, as AddFile objects."""
        return list(snapshot.allFiles().collectAsList())

    def ordered(self, snapshot: Any, first: int, end: int | None) -> list[Any]:
        """Live files as a stream that begins with a snapshot numbers them: by time of modification, then path; a part of them."""
        files = snapshot.allFiles().sort("modificationTime", self.seq(["path"]))
        listed = (files if end is None else files.limit(end)).collectAsList()
        return list(listed.subList(min(first, listed.size()), listed.size()))

    def add_of(self, body: dict[str, Any]) -> Any:
        """The AddFile with these values."""
        return self._actions.fromJson(json.dumps({"add": body}))

    def write(self, snapshot: Any, frame: DataFrame) -> list[Any]:
        """Write rows as the table's own files, checked by its rules; give their AddFiles, uncommitted."""
        transaction = self._log.startTransaction(self.none, self.some(snapshot))
        written = transaction.writeFiles(frame._jdf)  # noqa: SLF001  see _session
        return list(self._jvm.scala.jdk.javaapi.CollectionConverters.asJava(written))

    def frame(self, spark: SparkSession, snapshot: Any, adds: Iterable[Any]) -> DataFrame:
        """The rows of these files, deletion vectors applied and columns under their names."""
        with self._active(spark):
            return DataFrame(self._log.createDataFrame(snapshot, self.seq(adds), False, self.none), spark)

    def commit(
        self,
        snapshot: Any,
        actions: Iterable[Any],
        metadata: str,
        apps: Mapping[str, int],
        at: int,
        *,
        mode: str,
        alone: bool,
    ) -> int:
        """Commit on top of ``snapshot``, past commits by others that do not conflict.

        Conflicts are: a file to be removed was, an application of ``apps`` was committed, table or protocol were
        altered; with ``alone``, any change of rows.
        """
        transaction = self._log.startTransaction(self.none, self.some(snapshot))
        if alone:
            transaction.readWholeTable()
        sql = self._jvm.org.apache.spark.sql
        done = []
        for app, version in apps.items():
            # Read, so that Delta refuses when another commits the same application meanwhile.
            transaction.txnVersion(app)
            done.append(sql.delta.actions.SetTransaction(app, version, self.some(at)))
        write = getattr(sql.delta, "DeltaOperations$Write")
        saved = getattr(sql.SaveMode, mode)
        operation = write(saved, self.none, self.none, self.some(metadata), *[self.none] * 5)
        return int(transaction.commit(self.seq([*done, *actions]), operation))

    def exists(self, path: str) -> bool:
        """Whether there is a file at ``path``, absolute or below the table."""
        where = self._path(path)
        return bool(self._files_of(where).exists(where))

    def delete(self, path: str) -> None:
        """Delete a file at ``path``, absolute or below the table, if it is there."""
        where = self._path(path)
        self._files_of(where).delete(where, False)

    def vector_path(self, add: Any) -> str | None:
        """Where an AddFile's deletion vector is kept, when that is a file of its own."""
        vector = add.deletionVector()
        if vector is None or not vector.isOnDisk():
            return None
        return str(vector.absolutePath(self._log.dataPath()).toString())

    def _path(self, path: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(self._log.dataPath(), path)

    def _files_of(self, path: Any) -> Any:
        return path.getFileSystem(self._log.newDeltaHadoopConf())

    @contextmanager
    def _active(self, spark: SparkSession) -> Iterator[None]:
        # Delta takes the thread's active session; what is read must belong to the session that asked.
        sessions = self._jvm.org.apache.spark.sql.classic.SparkSession
        before = sessions.getActiveSession()
        sessions.setActiveSession(_session(spark))
        try:
            yield
        finally:
            if before.isDefined():
                sessions.setActiveSession(before.get())
            else:
                sessions.clearActiveSession()


def _session(spark: SparkSession) -> Any:
    return spark._jsparkSession  # noqa: SLF001  py4j has nothing else to hold on to


def is_race(error: BaseException) -> bool:
    """Whether Delta refused a commit because another came first."""
    # Raw from py4j until somebody imports delta, which makes Python exceptions of the same names.
    names = {kind.__name__ for kind in type(error).__mro__}
    thrown = getattr(error, "java_exception", None)
    if thrown is not None:
        names.add(str(thrown.getClass().getSimpleName()))
    return not _RACES.isdisjoint(names)
