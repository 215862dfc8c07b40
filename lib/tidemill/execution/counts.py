"""Whether all that a batch made has gone somewhere. Pure."""

from __future__ import annotations

from tidemill.errors import StateError
from tidemill.ledger.facts import LiveBatch
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile


def check_counts(
    pipeline: Pipeline,
    fact: LiveBatch,
    files: tuple[DataFile, ...],
    aside: tuple[DataFile, ...],
    rows: int | None,
) -> None:
    """Raise :class:`StateError` where rows of the output are neither written, nor set aside, nor dropped."""
    # An upsert takes one row a key.
    if rows is None or pipeline.table.mode == "upsert":
        return
    written, kept = (sum(file.rows for file in some) for some in (files, aside))
    if rows != written + kept + fact.output_dropped or kept != fact.output_quarantined:
        raise StateError(
            f"{pipeline.name}: batch {fact.batch} made {rows} rows; {written} were written, {kept} set aside, "
            f"{fact.output_dropped} dropped",
            next_step="this is a fault of tidemill, or of a transform that gives other rows each time",
        )
