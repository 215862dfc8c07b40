"""What the live stream has read of an input between two of its batches' ends, read once more as history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from tidemill.execution import resume
from tidemill.execution.pins import begin_of
from tidemill.ledger import index, inputs
from tidemill.ledger.admitted import Admitted, admitted, each_once
from tidemill.ledger.facts import Offsets
from tidemill.model import DeltaSource, FilesSource, Pipeline, RecordSource
from tidemill.sinks.jvm import DeltaJvm
from tidemill.sources.history import pinned_frame
from tidemill.view import shape_of


def input_between(
    spark: SparkSession, pipeline: Pipeline, name: str, checkpoint: str, begin: Offsets, until: Offsets
) -> Sequence[DataFrame]:
    """The rows of one input, as they came, that lie between two ends of batches. Together: one frame alone can say what file
    a row is from, and of a table that brought a file again it takes two.

    Raises :class:`StateError` where a table's log or the checkpoint does not reach that far back.
    """
    start, end = _offset(begin, name), _offset(until, name)
    source = pipeline.inputs[name].source
    if isinstance(source, FilesSource):
        place = until[name]["place"]
        after = int(start["logOffset"]) if start else -1
        files = inputs.files_read(checkpoint, place, after, int(end["logOffset"])) if end else []
        return [pinned_frame(spark, pipeline, name, files)]
    if isinstance(source, RecordSource):
        first = start or begin_of(pipeline, name, until[name]["place"])
        return [pinned_frame(spark, pipeline, name, {"start": first, "end": end or {}})]
    begun = _begun(pipeline, name, source) if start is None else None
    return _frames(spark, source.path, admitted(source.path, start, end, begun))


def _offset(ends: Any, name: str) -> Any:
    return (ends.get(name) or {}).get("offset")


def _begun(pipeline: Pipeline, name: str, source: DeltaSource) -> int | None:
    """The version at which a new checkpoint's stream has begun to read a table; None: with the table as it stood.

    Of an event store whose last checkpoint is lost and whose new one has published nothing yet.
    """
    if not pipeline.recorded:
        return None
    coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
    offset = resume.begin(pipeline, coverage).offsets.get(name)
    return None if offset is None else inputs.begin_again(source, offset)


def _frames(spark: SparkSession, path: str, found: Admitted) -> list[DataFrame]:
    # As Delta's source does it, from what the log said of each file when it came: it may be gone from the table since.
    table, standing = DeltaJvm(spark, path), found.standing
    adds: list[tuple[str, Any]] = []
    if standing is not None:
        snapshot = table.snapshot_at(standing.version)
        adds = [(add.path(), add) for add in table.ordered(snapshot, standing.first, standing.end)]
    # A stream reads them without statistics, too.
    adds += [(add["path"], table.add_of({**add, "stats": None})) for add in found.adds]
    newest = table.snapshot_at(found.version)
    return [table.frame(spark, newest, some) for some in each_once(adds)]
