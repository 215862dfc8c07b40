"""From options to a request: which intervals a person asked for."""

from __future__ import annotations

from tidemill.errors import PlanError
from tidemill.intervals import parse_moment
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request


def request_of(
    *,
    start: str | None,
    end: str | None,
    dirty: bool = False,
    stale: bool = False,
    missing: bool = False,
    include_open: bool = False,
    newest_first: bool = False,
) -> Request:
    """The request that the options spell. Raises :class:`PlanError` when a moment does not parse."""
    chosen = {State.DIRTY: dirty, State.STALE: stale, State.MISSING: missing}
    return Request(
        start=parse_moment(start) if start else None,
        end=parse_moment(end) if end else None,
        states=frozenset(state for state, wanted in chosen.items() if wanted),
        include_open=include_open,
        newest_first=newest_first,
    )


def require_selection(request: Request, pipeline: str) -> None:
    """Raise :class:`PlanError` when the request names no interval: a backfill of everything is never a default."""
    if not request.anything:
        raise PlanError(
            "say which intervals",
            next_step="--from and --to, or --dirty, --stale, --missing, --open, or --plan FILE; "
            f"what there is: tidemill plan {pipeline}",
        )
