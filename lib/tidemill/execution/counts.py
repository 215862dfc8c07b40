"""Whether a batch's rows are all accounted for."""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.errors import StateError
from tidemill.ledger.facts import LiveBatch
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile


def check_counts(
    pipeline: Pipeline,
    fact: LiveBatch,
    rows: int | None,
    files: Iterable[DataFile],
    aside: Iterable[DataFile],
) -> None:
    """Raise :class:`StateError` where some of the ``rows`` that a batch made are neither written, nor set aside, nor dropped.

    None: nobody has counted them.
    """
    written, kept = (sum(file.rows for file in some) for some in (files, aside))
    if rows is None or (rows == written + kept + fact.output_dropped and kept == fact.output_quarantined):
        return
    raise StateError(
        f"{pipeline.name}: batch {fact.batch} made {rows} rows; {written} were written, {kept} set aside, "
        f"{fact.output_dropped} dropped",
        next_step="this is a fault of tidemill, or of a transform that gives other rows each time",
    )
