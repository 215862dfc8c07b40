"""A file that cannot be read at all goes to the quarantine, whole, and the pipeline goes on without it.

In order: the file fails alone, too (what failed was not the disk or the moment); the quarantine gets a row that names
it; the list of such files gets its path. A crash between the last two finds the row committed and adds none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.errors import UnreadableFile
from tidemill.execution.failures import explained
from tidemill.execution.quarantine import append, file_rows
from tidemill.ledger import inputs, unreadable
from tidemill.model import Pipeline
from tidemill.sources.history import pinned_frame
from tidemill.storage import local_path


def set_aside(spark: SparkSession, pipeline: Pipeline, error: UnreadableFile, run: str) -> bool:
    """Set aside the file that ``error`` names; False when it is no file of a moving input, or reads well alone."""
    path = local_path(str(error.params["file"]))
    name = _input_of(pipeline, path)
    if name is None or path in unreadable.read(pipeline.table.state_path).get(name, {}):
        return False
    reason = _fails_alone(spark, pipeline, name, path)
    if reason is None:
        return False
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    row = file_rows(spark, pipeline, name, {path: reason})
    row = row.withColumns({"run": F.lit(run), "batch": F.lit(None).cast("long")})
    append(row, pipeline, f"tidemill/{pipeline.name}/unreadable/{digest}", 1)
    unreadable.add(pipeline.table.state_path, name, path, reason)
    return True


def given_up_between(
    given_up: Container[str], checkpoint: str, start: Mapping[str, Any], end: Mapping[str, Any]
) -> int:
    """How many of the files between two places of an input were set aside. Reads the source's log."""
    if not end["offset"]:
        return 0
    before = start["offset"]
    after = int(before["logOffset"]) if before else -1
    read = inputs.files_read(checkpoint, end["place"], after, int(end["offset"]["logOffset"]))
    return sum(path in given_up for path in read)


def listed(pipeline: Pipeline) -> set[str]:
    """The files of all inputs that were set aside."""
    return {path for files in unreadable.read(pipeline.table.state_path).values() for path in files}


def _input_of(pipeline: Pipeline, path: str) -> str | None:
    for name, each in pipeline.inputs.items():
        if each.files is not None and not each.static and path.startswith(each.files.path.rstrip("/") + "/"):
            return name
    return None


def _fails_alone(spark: SparkSession, pipeline: Pipeline, name: str, path: str) -> str | None:
    try:
        pinned_frame(spark, pipeline, name, [path]).write.format("noop").mode("overwrite").save()
    except Exception as error:  # noqa: BLE001  any other failure is not the file's own
        found = explained(error, pipeline)
        return str(found.params["reason"]) if isinstance(found, UnreadableFile) else None
    return None
