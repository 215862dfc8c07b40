"""How each expectation has fared, batch by batch and chunk by chunk: a fold over the verdicts of a table's commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.ledger.seen import RECENT
from tidemill.ledger.verdicts import Result, Verdict


@dataclass(frozen=True, slots=True)
class Trail:
    """One expectation, ``of`` an input ("" for the table's rows), by its ``id``.

    ``times``: how often it was judged, ``unmet`` how often it was not met, the last time in the commit ``last_unmet``.
    ``looked_at`` and ``unexpected`` add up rows, of backfills those that were judged again too. ``recent``: the last
    judgements, oldest first, each ``(version, met, looked_at, unexpected)``; rows only where it judges each row.
    """

    of: str
    id: str
    times: int = 0
    unmet: int = 0
    last_unmet: int | None = None
    looked_at: int = 0
    unexpected: int = 0
    recent: tuple[tuple[int, bool, int | None, int | None], ...] = ()

    def after(self, version: int, result: Result) -> Trail:
        """The trail with one more judgement."""
        seen = (version, result.met, result.looked_at, result.unexpected)
        return Trail(
            self.of,
            self.id,
            self.times + 1,
            self.unmet + (not result.met),
            self.last_unmet if result.met else version,
            self.looked_at + (result.looked_at or 0),
            self.unexpected + (result.unexpected or 0),
            (*self.recent, seen)[-RECENT:],
        )


Trails = tuple[Trail, ...]


def followed(trails: Trails, version: int, verdicts: Iterable[Verdict]) -> Trails:
    """The trails after the commit ``version``.

    >>> one = followed((), 3, [Verdict("", (Result("a", False, 5, 4, 1),))])
    >>> one[0].unmet, one[0].last_unmet, one[0].recent
    (1, 3, ((3, False, 4, 1),))
    """
    found = {(each.of, each.id): each for each in trails}
    for verdict in verdicts:
        for result in verdict.results:
            before = found.get((verdict.of, result.id), Trail(verdict.of, result.id))
            found[verdict.of, result.id] = before.after(version, result)
    return tuple(found.values())


def from_json(body: Iterable[Mapping[str, Any]]) -> Trails:
    """Trails from their fields, as JSON keeps them."""
    return tuple(Trail(**{**each, "recent": tuple(tuple(seen) for seen in each["recent"])}) for each in body)
