"""The files that hold a fold's states at interval ends, as the sink's ledger names them. No Spark."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.errors import StateError
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile
from tidemill.sinks.table import LogTable


def files_of(pipeline: Pipeline, made: Mapping[str, str]) -> tuple[LogTable, list[DataFile]]:
    """The files of states that are kept under these names, by interval.

    Raises :class:`StateError` when those of an interval are gone.
    """
    table = LogTable.open(pipeline.states_path, pipeline.grain)
    live = table.live_files().values() if table is not None else ()
    files = [file for file in live if made.get(file.label) == file.path.partition("/")[0]]
    gone = sorted(made.keys() - {file.label for file in files})
    if gone or table is None:
        raise StateError(
            f"{pipeline.states_path} does not hold the states at the end of {gone[0]}",
            next_step="restore the table; or move both tables away and backfill all there is",
            intervals=gone,
        )
    return table, files
