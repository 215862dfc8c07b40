"""What suites found in the rows of a batch or a chunk, as its commit carries it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """What one expectation found, by its ``id`` in the suite.

    Of one that judges each row: the ``rows`` within its row condition, those ``looked_at``, those ``unexpected``. Of any
    other: the ``value`` that was seen, as JSON has it.
    """

    id: str
    met: bool
    rows: int | None = None
    looked_at: int | None = None
    unexpected: int | None = None
    value: Any = None

    @property
    def text(self) -> str:
        """The finding, for a person."""
        if self.unexpected is not None:
            return f"{self.id}: {self.unexpected:,} of {self.looked_at:,} unexpected"
        return f"{self.id}: {'nothing' if self.value is None else self.value} was seen"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one suite found. ``of``: the input whose rows it judged, or "" for those of the table."""

    of: str
    results: tuple[Result, ...]

    @property
    def whose(self) -> str:
        """Whose rows were judged, for a person."""
        return f"the input {self.of}" if self.of else "the table's rows"


def as_json(verdicts: Iterable[Verdict]) -> list[Any]:
    """Verdicts as a commit holds them: a few dozen bytes an expectation. Lists, so that the suite's order stays.

    >>> as_json([Verdict("", (Result("a", True, 5, 4, 1), Result("b", False, value=2.5)))])
    [['', [['a', 1, 5, 4, 1], ['b', 0, 2.5]]]]
    """
    return [[each.of, [_lean(result) for result in each.results]] for each in verdicts]


def _lean(result: Result) -> list[Any]:
    seen = [result.value] if result.unexpected is None else [result.rows, result.looked_at, result.unexpected]
    return [result.id, int(result.met), *seen]


def from_json(body: Iterable[Any]) -> tuple[Verdict, ...]:
    """Verdicts from :func:`as_json`'s values.

    >>> from_json([["", [["a", 1, 5, 4, 1]]]])[0].results[0].looked_at
    4
    """
    return tuple(Verdict(of, tuple(_result(*each) for each in results)) for of, results in body)


def _result(name: str, met: int, *seen: Any) -> Result:
    return Result(name, bool(met), *seen) if len(seen) == 3 else Result(name, bool(met), value=seen[0])
