"""Whether all that a batch read and made has gone somewhere. Pure."""

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


def check_aside(pipeline: Pipeline, fact: LiveBatch, of: str, counted: int, found: int) -> None:
    """Raise :class:`StateError` where a batch has ``counted`` other rows of an input than were ``found`` to set aside."""
    if found != counted:
        raise StateError(
            f"{pipeline.name}: batch {fact.batch} leaves out {counted} rows of {of} to be set aside, and "
            f"{found} were found when it was read again",
            next_step="this is a fault of tidemill, or its input was altered meanwhile; nothing of the batch is published",
        )
