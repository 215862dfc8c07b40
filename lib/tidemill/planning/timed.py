"""By which column a table's stream has placed its input in time: that of its first batch, for good. Pure.

Another column makes other intervals of rows that were read long ago, and no ledger knows of which: they would be called clean, as if
they held nothing. Where backfills alone fill a table, an interval that nobody has computed is missing: nothing is in the way there.
"""

from __future__ import annotations

from tidemill.errors import PlanError
from tidemill.intervals import Grain
from tidemill.ledger.coverage import Coverage
from tidemill.model import Pipeline


def timed(pipeline: Pipeline) -> dict[str, str]:
    """The column of event time of each input that is read as it grows."""
    return {name: pipeline.event_time_of(name).column for name in pipeline.moving}


def check_timed(pipeline: Pipeline, coverage: Coverage) -> None:
    """Raise :class:`PlanError` where a stream has fed the table by another column. One interval holds every row, whatever its time."""
    if pipeline.recorded or pipeline.grain is Grain.ALL:
        return
    for name, now in timed(pipeline).items():
        then = coverage.timed.get(name, now)
        if then != now:
            raise PlanError(
                f"{pipeline.name}: its stream has read {name} by the event time {then}, and event_time.column is now {now}: rows "
                "belong to other intervals, of which nothing says which they are",
                next_step=f"say {then} again; or give the pipeline a new table (sink.delta.path), and fill that: tidemill bootstrap "
                f"{pipeline.name}, or tidemill run {pipeline.name}",
                input=name,
                column=then,
            )
