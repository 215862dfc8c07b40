"""A file that cannot be read at all goes to the quarantine, whole, and the pipeline goes on without it.

In order: the file fails alone, too (what failed was not the disk or the moment); the quarantine gets a row that names
it; the list of such files gets its path. A crash between the last two finds the row committed and adds none.
"""

from __future__ import annotations

import hashlib

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.errors import SourceError, UnreadableFile
from tidemill.execution.failures import explained
from tidemill.execution.quarantine import file_rows, quarantine_path
from tidemill.ledger import inputs, unreadable
from tidemill.ledger.facts import Offsets
from tidemill.model import Pipeline
from tidemill.sources.history import pinned_frame


def set_aside(spark: SparkSession, pipeline: Pipeline, error: UnreadableFile, run: str) -> bool:
    """Set aside the file that ``error`` names; False when it is no file of a moving input, or reads well alone."""
    path = inputs.local_path(str(error.params["file"]))
    name = _input_of(pipeline, path)
    if name is None or path in unreadable.read(pipeline.table.state_path).get(name, {}):
        return False
    reason = _fails_alone(spark, pipeline, name, path)
    if reason is None:
        return False
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    row = file_rows(spark, pipeline, name, {path: reason})
    row = row.withColumns({"run": F.lit(run), "batch": F.lit(None).cast("long")})
    (
        row.write.format("delta")
        .mode("append")
        .option("txnAppId", f"tidemill/{pipeline.name}/unreadable/{digest}")
        .option("txnVersion", 1)
        .save(quarantine_path(pipeline))
    )
    unreadable.add(pipeline.table.state_path, name, path, reason)
    return True


def given_up_between(
    pipeline: Pipeline, name: str, checkpoint: str, start: Offsets, end: Offsets
) -> list[str]:
    """The files of an input that a batch would have read, and that were set aside; no log is read when none ever was."""
    listed = unreadable.read(pipeline.table.state_path).get(name)
    if not listed or not end[name]["offset"]:
        return []
    before = start[name]["offset"]
    after = int(before["logOffset"]) if before else -1
    until = int(end[name]["offset"]["logOffset"])
    return [
        path for path in inputs.files_read(checkpoint, end[name]["place"], after, until) if path in listed
    ]


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
    except Exception as error:
        found = explained(error, pipeline)
        if isinstance(found, UnreadableFile):
            return str(found.params.get("reason", found.message))
        raise SourceError(found.message, next_step=found.next_step, **found.params) from error
    return None
