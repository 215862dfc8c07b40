"""A suite's row expectations over rows of one schema: what to count as they are written, and which to leave out.

Everything here is columns, so that it rides on the write itself. :meth:`Rules.marked` gives each row its marks: what each
rule finds of it, as bits of a few whole numbers, null where no rule finds anything. All else reads the marks:
:meth:`Rules.counts` is for ``observe``, :attr:`Rules.left_out` for a filter behind it. A row that one rule drops and another
quarantines is quarantined: nothing is lost that any rule wants kept.

Marks are computed where Spark compiles whole stages, and a row of which nothing is found costs little more than its
comparisons: a count of its own for each rule was seen to cost twice as much. How many rows have which marks is a
histogram of so many bins that it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs
from tidemill.model.quality import Action
from tidemill.quality.call_sites import without_call_sites
from tidemill.quality.predicates import Predicate, compiled, number_of
from tidemill.quality.verdict import Counted

DROPPED, QUARANTINED = "dropped", "quarantined"
"""The names of the counts of rows that are left out; each row is in one of them."""

MARK = "_tidemill_mark_"
"""How the names of the columns with marks begin."""

ROWS = "rows"
"""The name of the count of rows that are judged."""

_BITS = 16
"""How many bits a mark has: a histogram of marks has two to the power of it bins at most."""


@dataclass(frozen=True)
class Rules:
    """The row expectations of a suite, compiled.

    >>> rules = Rules.of(suite, frame.schema)  # doctest: +SKIP
    >>> rules.marked(frame).agg(*rules.counts())  # doctest: +SKIP
    """

    predicates: tuple[Predicate, ...]

    @classmethod
    @without_call_sites()
    def of(cls, suite: Suite, schema: T.StructType) -> Rules:
        """The rules of a suite over rows of ``schema``; its other expectations are left alone."""
        return cls(tuple(compiled(each, schema) for each in suite.that_run(Runs.ROW)))

    @without_call_sites()
    def marked(self, frame: DataFrame, of: Column | None = None) -> DataFrame:
        """Rows with their marks. ``of``: the rows that are judged, the others have none; all, when None."""
        for number, group in enumerate(self._groups):
            mark = f"{MARK}{number}"
            frame = frame.withColumn(mark, _bits(self._found[each] for each in group))
            # In a projection of its own, which Spark does not merge with the one before: else it would compute the bits
            # twice, and all marks in one method, which Java does not compile once it is longer than 8,000 bytes.
            hit = F.col(mark) != 0 if of is None else (F.col(mark) != 0) & of
            frame = frame.withColumn(mark, F.when(hit, F.col(mark)))
        return frame

    def unmarked(self, frame: DataFrame) -> DataFrame:
        """Rows without their marks."""
        return frame.drop(*[f"{MARK}{number}" for number in range(len(self._groups))])

    @without_call_sites()
    def counts(self, of: Column | None = None) -> list[Column]:
        """What to observe of marked rows: how many there are, within which conditions, with which marks, left out how.

        ``of``: as for :meth:`marked`.
        """
        if not self.predicates:
            return []
        found = {ROWS: F.count(F.lit(1)) if of is None else number_of(of)}
        for number, each in enumerate(self.predicates):
            if each.inside is not None:
                found[self._inside(number)] = number_of(each.inside if of is None else each.inside & of)
        for number, group in enumerate(self._groups):
            found[f"marks_{number}"] = F.histogram_numeric(F.col(f"{MARK}{number}"), F.lit(1 << len(group)))
        if self.change_rows:
            found[QUARANTINED] = number_of(self.quarantined)
            found[DROPPED] = number_of(self.dropped)
        return [column.alias(name) for name, column in found.items()]

    def counted(self, seen: Mapping[str, Any]) -> tuple[Counted, ...]:
        """What was observed, rule by rule; ``seen``: counts by name, of one pass."""
        hits = dict.fromkeys(self._found, 0)
        for number, group in enumerate(self._groups):
            for bin_ in seen[f"marks_{number}"] or ():
                for bit, name in enumerate(group):
                    hits[name] += int(bin_["y"]) if int(bin_["x"]) >> bit & 1 else 0
        return tuple(
            Counted(
                each.expectation, rows, rows - hits.get(self._ignored(number), 0), hits[_unexpected(number)]
            )
            for number, each in enumerate(self.predicates)
            for rows in [int(seen[ROWS if each.inside is None else self._inside(number)])]
        )

    @property
    def change_rows(self) -> bool:
        """Whether any rule leaves rows out."""
        return any(each.expectation.changes_rows for each in self.predicates)

    @property
    def keep_rows(self) -> bool:
        """Whether any rule keeps rows in the quarantine."""
        return any(_keeps(each.expectation) for each in self.predicates)

    @property
    def left_out(self) -> Column:
        """Whether a marked row is left out of the table; never null."""
        return self._any(lambda each: each.changes_rows)

    @property
    def dropped(self) -> Column:
        """Whether a marked row is left out and not kept; never null."""
        return self.left_out & ~self.quarantined

    @property
    def quarantined(self) -> Column:
        """Whether a marked row is kept in the quarantine; never null."""
        return self._any(_keeps)

    @property
    def reasons(self) -> Column:
        """The ids of the rules that a marked row is quarantined for, in the suite's order."""
        ids = [
            F.when(self._any(lambda each, this=rule: each is this), F.lit(rule.id))  # type: ignore[misc]
            for rule in (each.expectation for each in self.predicates)
            if _keeps(rule)
        ]
        return F.array_compact(F.array(*ids)) if ids else F.array().cast("array<string>")

    def _any(self, of: Callable[[Expectation], bool]) -> Column:
        wanted = {_unexpected(n) for n, each in enumerate(self.predicates) if of(each.expectation)}
        hit = F.lit(False)
        for number, group in enumerate(self._groups):
            bits = sum(1 << bit for bit, name in enumerate(group) if name in wanted)
            if bits:
                found = F.col(f"{MARK}{number}").bitwiseAND(F.lit(bits)) != 0
                hit = hit | F.coalesce(found, F.lit(False))
        return hit

    @cached_property
    def _found(self) -> dict[str, Column]:
        """What can be found of a row, by name; what several rules find alike is found once."""
        found = {}
        for number, each in enumerate(self.predicates):
            found[_unexpected(number)] = each.unexpected
            if each.ignored is not None:
                found[self._ignored(number)] = each.ignored
        return found

    @cached_property
    def _groups(self) -> list[list[str]]:
        """The names in :attr:`_found` that each mark has as its bits."""
        names = list(self._found)
        return [names[first : first + _BITS] for first in range(0, len(names), _BITS)]

    def _inside(self, number: int) -> str:
        return f"inside_{self._first_alike(number, _condition)}"

    def _ignored(self, number: int) -> str:
        return f"ignored_{self._first_alike(number, _domain)}"

    def _first_alike(self, number: int, key: Callable[[Expectation], object]) -> int:
        mine = key(self.predicates[number].expectation)
        return next(i for i, each in enumerate(self.predicates) if key(each.expectation) == mine)


def _unexpected(number: int) -> str:
    return f"unexpected_{number}"


def _keeps(each: Expectation) -> bool:
    return each.action is Action.QUARANTINE


def _bits(found: Iterable[Column]) -> Column:
    # In pairs of pairs: Spark takes the length of each operator's code, with all that is in it, which of a chain is quadratic.
    each = [F.when(column, 1 << bit).otherwise(0) for bit, column in enumerate(found)]
    while len(each) > 1:
        each = [reduce(Column.bitwiseOR, each[first : first + 2]) for first in range(0, len(each), 2)]
    return each[0]


def _condition(each: Expectation) -> tuple[str, ...]:
    return tuple(repr(each.kwargs.get(name)) for name in ("row_condition", "condition_parser"))


def _domain(each: Expectation) -> tuple[Any, ...]:
    # Expectations of nulls look at every row, whatever their column.
    of_nulls = each.type.endswith("_be_null")
    return (*_condition(each), () if of_nulls else each.columns, each.kwargs.get("ignore_row_if"))
