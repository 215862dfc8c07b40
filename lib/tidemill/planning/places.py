"""Where each expectation of a pipeline's suites is evaluated. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tidemill.model import Action, Quality
from tidemill.model.expectations import Runs

WHERE: Mapping[Runs, str] = {
    Runs.ROW: "in the write, of each row",
    Runs.BATCH: "in the write, of all rows together",
    Runs.SCHEMA: "by the schema, before anything is read",
    Runs.FILES: "of the files, before they are published",
    Runs.GX: "in GX, at the gate of a backfill",
}
"""Where an expectation runs, for a person."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One expectation by its id, ``of`` an input ("" for the rows of the table), and where it runs."""

    of: str
    id: str
    action: Action
    runs: Runs


def places(quality: Quality) -> tuple[Placed, ...]:
    """Every expectation of the inputs' suites and of the table's, in their order."""
    return tuple(_places(quality))


def _places(quality: Quality) -> Iterator[Placed]:
    for name, suite in quality.inputs.items():
        yield from (Placed(name, each.id, each.action, each.runs) for each in suite.expectations)
    if quality.suite is not None:
        yield from (Placed("", each.id, each.action, each.runs) for each in quality.suite.expectations)


def lines(placed: Iterable[Placed]) -> Iterator[str]:
    """A line a place that has any.

    >>> list(lines([Placed("", "a", Action.FAIL, Runs.GX), Placed("raw", "b", Action.WARN, Runs.GX)]))
    ['in GX, at the gate of a backfill: a (fail), b (of raw)']
    """
    found: dict[Runs, list[str]] = {}
    for each in placed:
        marks = [each.action.value] if each.action is not Action.WARN else []
        marks += [f"of {each.of}"] if each.of else []
        found.setdefault(each.runs, []).append(f"{each.id} ({', '.join(marks)})" if marks else each.id)
    return (f"{what}: {', '.join(found[runs])}" for runs, what in WHERE.items() if runs in found)


def as_json(placed: Iterable[Placed]) -> list[dict[str, Any]]:
    """Plain values."""
    return [asdict(each) for each in placed]
