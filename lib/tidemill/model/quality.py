"""What is expected of rows, and what happens to those that are not as expected."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from tidemill.model.base import Frozen
from tidemill.model.expectations import KINDS, Runs

_DOMAINS = ("column", "column_A", "column_B", "column_list")


class Action(StrEnum):
    """What an expectation does when it is not met."""

    WARN = "warn"
    """Its result is recorded."""
    DROP = "drop"
    """Rows that it finds are left out, and counted."""
    QUARANTINE = "quarantine"
    """Rows that it finds are left out, and kept beside the table with the reason."""
    FAIL = "fail"
    """Nothing of the batch or chunk is published."""


class Within(StrEnum):
    """How far an expectation of unique values looks, where it does not ask GX."""

    BATCH = "batch"
    """The rows of one live batch."""
    INTERVAL = "interval"
    """Those, and what the table holds of their intervals."""


class Expectation(Frozen):
    """One expectation of a suite, in GX's own words. ``id`` names it within the suite and in the quarantine.

    ``within``: how far it looks, of unique values alone. ``where``: the file and line where it stands.
    """

    id: str
    type: str
    kwargs: dict[str, Any] = Field(default_factory=dict)
    action: Action = Action.WARN
    severity: Literal["critical", "warning", "info"] = "critical"
    within: Within | None = None
    where: str = Field(default="", exclude=True)

    @property
    def runs(self) -> Runs:
        """Where it is evaluated."""
        if self.within is not None:
            return Runs.FILES
        return KINDS[self.type].runs if self.type in KINDS else Runs.GX

    @property
    def mostly(self) -> float:
        """The share of the rows it looks at that must be as expected."""
        return float(self.kwargs.get("mostly", 1))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values it looks at, as far as its parameters name them."""
        names: list[str] = []
        for parameter in KINDS[self.type].domain if self.type in KINDS else _DOMAINS:
            value = self.kwargs.get(parameter, [])
            names += [value] if isinstance(value, str) else value
        return tuple(names)

    @property
    def changes_rows(self) -> bool:
        """Whether rows are left out because of it."""
        return self.action in {Action.DROP, Action.QUARANTINE}


class Suite(Frozen):
    """A suite of expectations, by name."""

    name: str
    expectations: tuple[Expectation, ...] = ()

    def that_run(self, runs: Runs) -> tuple[Expectation, ...]:
        """Those that are evaluated there, in the suite's order."""
        return tuple(each for each in self.expectations if each.runs is runs)


class Quality(Frozen):
    """The suites of a pipeline: for the rows of its table, and for those of its inputs, by name."""

    suite: Suite | None = None
    inputs: dict[str, Suite] = Field(default_factory=dict)
