"""Turns what Spark and Python raise into tidemill's errors, with the cause and the next step."""

from __future__ import annotations

import re

from pyspark.errors import PySparkException

from tidemill.errors import SourceError, TidemillError, TransformError
from tidemill.model import Pipeline

_FILE = re.compile(r"(?:file:/[^\s'\"\]]+)")
_UNREADABLE = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE",
    "is not a Parquet file",
    "EOFException",
    "ZipException",
)


def explained(error: BaseException, pipeline: Pipeline) -> TidemillError:
    """The tidemill error that says what ``error`` means for a run of ``pipeline``."""
    if isinstance(error, TidemillError):
        return error
    text = str(error)
    if any(mark in text for mark in _UNREADABLE):
        found = _FILE.search(text)
        name = found[0].rstrip(".,") if found else "a file"
        return SourceError(
            f"{pipeline.name}: {name} cannot be read",
            next_step="put a readable file in its place, under the same name (for json and csv an empty one "
            "gives it up), and start again; nothing of this batch was published",
            file=name,
        )
    kind = error.getCondition() if isinstance(error, PySparkException) else None
    first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return TransformError(
        f"{pipeline.name}: {first[:500]}",
        next_step="nothing of this batch was published; correct the cause and start again",
        condition=kind or type(error).__name__,
    )
