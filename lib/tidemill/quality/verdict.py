"""Whether an expectation is met, from what was counted. Source: GX's `_mostly_success`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
