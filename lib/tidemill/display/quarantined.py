"""What was set aside, in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.display.html import joined, long_table, muted, page, tag
from tidemill.display.words import count, moment

if TYPE_CHECKING:
    from tidemill.quarantined import Quarantined


def quarantined_html(found: Quarantined) -> str:
    """How many rows were set aside for which reason, and the newest of them."""
    title = joined([tag("b", found.pipeline), f"{count(found.rows, 'row')} quarantined"], by="  ")
    reasons = [(each.input, each.reason, f"{each.rows:,}") for each in found.reasons]
    rows = [
        (
            moment(each.at),
            "backfill" if each.batch is None else each.batch,
            "; ".join(each.reasons),
            each.record,
        )
        for each in found.sample
    ]
    return page(
        title,
        long_table(("input", "reason", "rows"), reasons, right={"rows"}, prose=("reason",)),
        muted("the newest:") if rows else "",
        long_table(("at", "batch", "reasons", "record"), rows, prose=("reasons", "record")),
    )
