"""Which values of a pipeline's rows stay out of what is kept beside the table: commits, index, manifests, Data Docs.

Those are there for longer than the rows, and nothing rebuilds them when a person is erased. Rules of an input see its fields before
they are sealed; and of what a pipeline opens anything may be made, so there every value counts as a person's: a year of birth as
well as a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidemill.ledger.verdicts import Result
from tidemill.model import Pipeline
from tidemill.model.source import is_part

HIDDEN = "(hidden)"
"""What stands in place of a value."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Of which columns values are not to be kept: the ``fields`` named, or of ``everything``."""

    fields: tuple[str, ...] = ()
    everything: bool = False

    def __call__(self, column: str) -> bool:
        """Whether values of a column are."""
        return self.everything or any(is_part(column, each) or is_part(each, column) for each in self.fields)


def of_input(pipeline: Pipeline, name: str) -> Hidden:
    """What an input's rules see and nothing may keep."""
    personal = pipeline.inputs[name].personal
    return Hidden(personal.seal if personal is not None else ())


def of_table(pipeline: Pipeline) -> Hidden:
    """What the table's rules see and nothing may keep."""
    return Hidden(everything=pipeline.holds_opened)


def without_values(pipeline: Pipeline, results: Iterable[Result]) -> tuple[Result, ...]:
    """What Great Expectations found of the table's rows: of a pipeline that opens fields, how many are unexpected, and no value."""
    return tuple(
        replace(each, value=HIDDEN) if pipeline.holds_opened and each.value is not None else each
        for each in results
    )


def without_opened(pipeline: Pipeline, samples: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Samples of the table's rows: of a pipeline that opens fields, each value is a number, the same for equal ones.

    All but the time that places a row in its interval, which says no more than that.
    """
    if not pipeline.holds_opened:
        return tuple(samples)
    numbers: dict[str, str] = {}

    def numbered(row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: numbers.setdefault(json.dumps(value), f"{HIDDEN} {len(numbers) + 1}")
            if name != pipeline.interval_column and value is not None
            else value
            for name, value in row.items()
        }

    return tuple({**each, "row": json.dumps(numbered(json.loads(each["row"])))} for each in samples)
