"""What publishing, swaps and upserts ask of a table, whichever writer it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tidemill.intervals import Grain
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile
from tidemill.sinks.table import AppVersion

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType


class Table(Protocol):
    """One table, seen as of the last refresh. :class:`~tidemill.sinks.table.LogTable` and
    :class:`~tidemill.sinks.spark_table.SparkTable` keep the same promises.
    """

    path: str
    grain: Grain
    parts_rows: bool
    """Whether :meth:`stage` gives rows that rules set aside files of their own."""

    @property
    def version(self) -> int:
        """The version as of the last refresh."""

    @property
    def schema(self) -> dict[str, Any]:
        """The table's schema, as Spark writes it in JSON."""

    @property
    def partition_columns(self) -> list[str]:
        """The columns the table is partitioned by."""

    @property
    def computed(self) -> frozenset[str]:
        """Columns that the writer fills when the rows do not bring them."""

    @property
    def append_only(self) -> bool:
        """Whether rows may never be taken away."""

    def refresh(self) -> None:
        """See what others have committed."""

    def app_version(self, app: str) -> int | None:
        """The greatest version that ``app`` has committed."""

    def live_files(self) -> dict[str, DataFile]:
        """Every live file by path, as of the last refresh."""

    def files_at(self, version: int) -> dict[str, DataFile]:
        """Every file that was live at ``version``, by path."""

    def place(self, frame: DataFrame, pipeline: Pipeline) -> DataFrame:
        """The frame, a stream too, with the partition column as :meth:`stage` wants it."""

    def stage(self, frame: DataFrame, pipeline: Pipeline) -> tuple[DataFile, ...]:
        """Run a placed frame once and write its rows as files that no reader sees; as
        :func:`tidemill.sinks.stage.write`.
        """

    def read(self, spark: SparkSession, files: Sequence[DataFile], schema: StructType) -> DataFrame:
        """The rows of staged files, or of files as they were live; columns are those of ``schema``."""

    def lost(self, files: Iterable[DataFile]) -> list[str]:
        """The paths of those files that are no longer on disk."""

    def discard(self, files: Iterable[DataFile]) -> None:
        """Delete staged files that no commit names and none will."""

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
        """One attempt to commit. Raises :class:`~tidemill.sinks.table.Raced` when others came first.

        ``alone``: no other commit may have changed rows since the last refresh, appends neither.
        """

    def checkpoint_sometimes(self) -> None:
        """Now and then, write a log checkpoint."""
