"""Whether an expectation is met, from what was counted. Source: GX's `_mostly_success`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tidemill.ledger.verdicts import Result, Verdict
from tidemill.model import Expectation, Suite


@dataclass(frozen=True, slots=True)
class Counted:
    """What was seen of one row expectation: ``rows`` within its row condition, of those ``looked_at``, of those
    ``unexpected``.
    """

    expectation: Expectation
    rows: int
    looked_at: int
    unexpected: int

    @property
    def met(self) -> bool:
        """Whether enough of the rows that were looked at are as expected; with none, it is."""
        if not self.looked_at:
            return True
        return (float(self.looked_at) - float(self.unexpected)) / float(
            self.looked_at
        ) >= self.expectation.mostly


def with_results(suite: Suite, verdict: Verdict, more: Sequence[Result]) -> Verdict:
    """A verdict of this suite with more results, all in the suite's order."""
    found = {each.id: each for each in (*verdict.results, *more)}
    return Verdict(verdict.of, tuple(found[each.id] for each in suite.expectations if each.id in found))


def that_saw(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Verdicts without the results of which no value was seen: a minimum of no rows, say, or of nulls alone.

    GX does not hold such an expectation to be met, and that is recorded. But a live batch may well have no rows: a window
    gives none until it is over.
    """
    return tuple(
        replace(
            each,
            results=tuple(r for r in each.results if r.value is not None or r.unexpected is not None),
        )
        for each in verdicts
    )
