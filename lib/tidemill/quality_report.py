"""How a pipeline's expectations have fared, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.display.rules import rules_html
from tidemill.ledger.trails import Trail
from tidemill.model import Expectation, Pipeline
from tidemill.view import View

if TYPE_CHECKING:
    from altair import Chart


@dataclass(frozen=True, slots=True)
class Rule:
    """One expectation of a pipeline's suites. ``of``: the input that it is for, "" for the rows of the table.

    ``passed``: the share of the rows it looked at that were as expected, over all batches and chunks; of an expectation
    that does not judge each row, the share of the batches and chunks that met it. None where it has not been judged.
    ``recent``: the same of each of the last judgements, oldest first.
    """

    of: str
    id: str
    action: str
    severity: str
    times: int
    unmet: int
    looked_at: int
    unexpected: int
    passed: float | None
    recent: tuple[float, ...]
    recent_met: tuple[bool, ...]
    """Whether it was met in each of the last judgements, oldest first."""

    @property
    def met(self) -> bool | None:
        """Whether it was met the last time; None where it has not been judged."""
        return self.recent_met[-1] if self.recent_met else None


class Rules(tuple[Rule, ...]):
    """The expectations of a pipeline's suites: those of its inputs, then those of its table."""

    __slots__ = ()

    def chart(self) -> Chart:
        """The share that passed each of them lately: a chart of Altair's, to look at or to change."""
        from tidemill.display.charts import rules_chart

        return rules_chart(self)

    def _repr_html_(self) -> str:
        return rules_html(self)


def rules_of(view: View) -> Rules:
    """Every expectation of a pipeline's suites as they are today, in their order, and how it has fared."""
    trails = {(each.of, each.id): each for each in view.coverage.trails}
    return Rules(
        _rule(of, each, trails.get((of, each.id), Trail(of, each.id)))
        for of, each in _expectations(view.pipeline)
    )


def _expectations(pipeline: Pipeline) -> Iterator[tuple[str, Expectation]]:
    for name, suite in pipeline.quality.inputs.items():
        yield from ((name, each) for each in suite.expectations)
    if pipeline.quality.suite is not None:
        yield from (("", each) for each in pipeline.quality.suite.expectations)


def _rule(of: str, expectation: Expectation, trail: Trail) -> Rule:
    by_row = any(looked_at is not None for _, _, looked_at, _ in trail.recent)
    whole, bad = (trail.looked_at, trail.unexpected) if by_row else (trail.times, trail.unmet)
    return Rule(
        of,
        expectation.id,
        expectation.action.value,
        expectation.severity,
        trail.times,
        trail.unmet,
        trail.looked_at,
        trail.unexpected,
        _share(whole, bad) if trail.times else None,
        tuple(float(met) if n is None else _share(n, u or 0) for _, met, n, u in trail.recent),
        tuple(met for _, met, _, _ in trail.recent),
    )


def _share(whole: int, bad: int) -> float:
    return 1.0 if not whole else (whole - bad) / whole
