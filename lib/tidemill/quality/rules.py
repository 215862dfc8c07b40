"""A suite's row expectations over rows of one schema: what to count as they are written, and which to leave out.

Everything here is columns, so that it rides on the write itself: :meth:`Rules.counts` is for ``observe``,
:attr:`Rules.left_out` for a filter behind it. A row that one rule drops and another quarantines is quarantined:
nothing is lost that any rule wants kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs
from tidemill.model.quality import Action
from tidemill.quality.predicates import Predicate, compiled, number_of
from tidemill.quality.verdict import Counted

DROPPED, QUARANTINED = "dropped", "quarantined"
"""The names of the counts of rows that are left out; each row is in one of them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The row expectations of a suite, compiled.

    >>> Rules.of(suite, frame.schema).counts()  # doctest: +SKIP
    """

    predicates: tuple[Predicate, ...]

    @classmethod
    def of(cls, suite: Suite, schema: T.StructType) -> Rules:
        """The rules of a suite over rows of ``schema``; its other expectations are left alone."""
        return cls(tuple(compiled(each, schema) for each in suite.that_run(Runs.ROW)))

    def counts(self, of: Column | None = None) -> list[Column]:
        """What to observe: of each rule the rows inside, looked at and unexpected; and the rows left out.

        What several rules count alike is counted once. ``of``: the rows that are judged; all, when None.
        """
        found: dict[str, Column] = {}
        for number, each in enumerate(self.predicates):
            found[_inside(self, number)] = each.inside
            found[_looked_at(self, number)] = each.looked_at
            found[f"unexpected_{number}"] = each.unexpected
        if self.change_rows:
            found[QUARANTINED] = self.quarantined
            found[DROPPED] = self.dropped
        return [
            number_of(column if of is None else column & of).alias(name) for name, column in found.items()
        ]

    def counted(self, seen: Mapping[str, Any]) -> tuple[Counted, ...]:
        """What was observed, rule by rule; ``seen``: counts by name, of one pass."""
        return tuple(
            Counted(
                each.expectation,
                rows=int(seen[_inside(self, number)]),
                looked_at=int(seen[_looked_at(self, number)]),
                unexpected=int(seen[f"unexpected_{number}"]),
            )
            for number, each in enumerate(self.predicates)
        )

    @property
    def change_rows(self) -> bool:
        """Whether any rule leaves rows out."""
        return any(each.expectation.changes_rows for each in self.predicates)

    @property
    def left_out(self) -> Column:
        """Whether a row is left out of the table; never null."""
        return _any(each.unexpected for each in self.predicates if each.expectation.changes_rows)

    @property
    def keep_rows(self) -> bool:
        """Whether any rule keeps rows in the quarantine."""
        return bool(self._quarantine)

    @property
    def dropped(self) -> Column:
        """Whether a row is left out and not kept; never null."""
        return self.left_out & ~self.quarantined

    @property
    def quarantined(self) -> Column:
        """Whether a row is kept in the quarantine; never null."""
        return _any(each.unexpected for each in self._quarantine)

    @property
    def reasons(self) -> Column:
        """The ids of the rules that a row is quarantined for, in the suite's order."""
        ids = [F.when(each.unexpected, F.lit(each.expectation.id)) for each in self._quarantine]
        return F.array_compact(F.array(*ids)) if ids else F.array().cast("array<string>")

    @property
    def _quarantine(self) -> tuple[Predicate, ...]:
        return tuple(each for each in self.predicates if each.expectation.action is Action.QUARANTINE)


def _any(columns: Iterable[Column]) -> Column:
    return reduce(Column.__or__, columns, F.lit(False))


def _inside(rules: Rules, number: int) -> str:
    return f"inside_{_first_alike(rules, number, _condition)}"


def _looked_at(rules: Rules, number: int) -> str:
    return f"looked_at_{_first_alike(rules, number, _domain)}"


def _first_alike(rules: Rules, number: int, key: Callable[[Expectation], object]) -> int:
    mine = key(rules.predicates[number].expectation)
    return next(i for i, each in enumerate(rules.predicates) if key(each.expectation) == mine)


def _condition(each: Expectation) -> tuple[str, ...]:
    return tuple(repr(each.kwargs.get(name)) for name in ("row_condition", "condition_parser"))


def _domain(each: Expectation) -> tuple[Any, ...]:
    # Expectations of nulls look at every row, whatever their column.
    of_nulls = each.type.endswith("_be_null")
    return (*_condition(each), () if of_nulls else each.columns, each.kwargs.get("ignore_row_if"))
