"""What was set aside, in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidemill.display.html import block, joined, long_table, muted, page, tag
from tidemill.display.runs import done_html
from tidemill.display.words import count, moment, whose

if TYPE_CHECKING:
    from tidemill.execution.release import Released, Wanted
    from tidemill.quarantined import Quarantined


def quarantined_html(found: Quarantined) -> str:
    """How many rows were set aside for which reason, and the newest of them."""
    title = joined([tag("b", found.pipeline), f"{count(found.rows, 'row')} quarantined"], by="  ")
    reasons = [(whose(each.input), each.reason, f"{each.rows:,}") for each in found.reasons]
    rows = [
        (
            moment(each.at),
            each.interval or "",
            "backfill" if each.batch is None else each.batch,
            "; ".join(each.reasons),
            each.record,
        )
        for each in found.sample
    ]
    return page(
        title,
        long_table(("rows of", "reason", "rows"), reasons, right={"rows"}, prose=("reason",)),
        muted("the newest:") if rows else "",
        long_table(("at", "interval", "batch", "reasons", "record"), rows, prose=("reasons", "record")),
    )


def beside(found: Wanted) -> list[str]:
    """What there is to say of the rows that are to be released, beside the plan: a line each."""
    said = []
    if found.unread:
        again = "is read again where it" if found.unread == 1 else "are read again where they"
        said.append(f"{found.unread:,} of them could not be read, and {again} came from")
    if found.beyond:
        said.append(f"{count(found.beyond, 'file')} cannot be read at all: what stands for them stays there")
    return said + dropped(found.dropping)


def dropped(rules: Sequence[str]) -> list[str]:
    """What rules that drop do to rows that are released; nothing where there are none."""
    return (
        [f"rows that {' or '.join(rules)} drops leave the quarantine, and are not in the table"]
        if rules
        else []
    )


def wanted_html(found: Wanted) -> str:
    """What a release would compute anew, and for how many rows."""
    asked = f"{count(found.rows, 'row')} of the quarantine"
    said = [block(muted(line)) for line in beside(found)] if found.rows else []
    return page(joined([tag("b", found.plan.pipeline), asked], by="  "), *said) + found.plan._repr_html_()


def released_html(done: Released) -> str:
    """How many rows were let go, how many were not, and what the backfill changed."""
    said = [f"{count(done.released, 'row')} released", f"{done.held:,} still set aside"]
    waiting = ", ".join(each.interval.label for each in done.left_out)
    head = page(
        joined([tag("b", done.pipeline), ", ".join(said)], by="  "),
        *(block(muted(line)) for line in dropped(done.dropping) if done.released),
        muted(f"not yet complete: {waiting}") if waiting else "",
    )
    return head + (done_html(done.done) if done.done is not None else "")
