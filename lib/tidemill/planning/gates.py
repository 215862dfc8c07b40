"""A gate in words: what it allows, and why a person overrides it."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.errors import PlanError
from tidemill.model import Gate
from tidemill.model.sink import EVERY_COLUMN


def limits(gate: Gate) -> Iterator[str]:
    """What a gate allows; of shares, numbers of rows and nulls a line each."""
    judged = f" (intervals of {gate.min_rows} rows and more)"
    shares = {"vanish": gate.max_removed, "appear": gate.max_added, "change": gate.max_changed}
    if some := [f"at most {percent(each)} may {verb}" for verb, each in shares.items() if each is not None]:
        yield ", ".join(some) + judged
    rows = {"vanish": gate.max_removed_rows, "appear": gate.max_added_rows, "change": gate.max_changed_rows}
    if some := [f"at most {each:,} rows may {verb}" for verb, each in rows.items() if each is not None]:
        yield ", ".join(some) + " (each interval)"
    if gate.watches_nulls:
        drifts = [
            f"{'any column' if column == EVERY_COLUMN else column} "
            + ("as it likes" if limit is None else f"by {percent(limit)}")
            for column, limit in gate.max_null_drift.items()
        ]
        yield f"the share of nulls may drift in {', '.join(drifts)}{judged}"


def percent(share: float) -> str:
    """A share as per cent, with as many digits as tell it apart.

    >>> percent(0.2), percent(0.0005), percent(2 / 3), percent(1.5)
    ('20%', '0.05%', '66.67%', '150%')
    """
    return f"{share * 100:.4g}%"


LONGEST_WHY = 500
"""Letters: a commit's metadata stays small."""


def forced(*, force: bool, why: str | None) -> str | None:
    """Why a gate is overridden; None where it is not.

    Raises :class:`PlanError` where one of both is missing, or the reason is too long for a commit.

    >>> forced(force=True, why=" the feed was down "), forced(force=False, why=None)
    ('the feed was down', None)
    """
    reason = " ".join((why or "").split())
    if force and not reason:
        raise PlanError(
            "to publish what the gate refuses needs a reason, which is kept in the commit",
            next_step='say it: --force --why "..."',
        )
    if reason and not force:
        raise PlanError(
            "a reason is given, and nothing is forced", next_step="add --force, or leave --why away"
        )
    if len(reason) > LONGEST_WHY:
        raise PlanError(
            f"the reason is {len(reason)} letters long",
            next_step=f"say it in {LONGEST_WHY}; a commit stays small",
        )
    return reason or None
