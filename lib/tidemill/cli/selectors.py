"""From options to a request: which intervals a person asked for."""

from __future__ import annotations

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
