"""A pipeline of readings over a folder of JSON files, for tests of suites in runs; what its table must hold is plain Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.feed import Folder
from tidemill.planning.selection import Request

Reading = Mapping[str, Any]
BETWEEN, NOT_NULL = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"


def reading(number: int, v: int | None, day: int = 1) -> Reading:
    return {"id": number, "at": f"2024-01-{day:02}T{number % 24:02}:00:00Z", "v": v}


def expectation(type_: str, action: str = "warn", **kwargs: Any) -> dict[str, Any]:
    return {"type": type_, "kwargs": kwargs, "meta": {"action": action}}


def suite(*expectations: dict[str, Any]) -> dict[str, Any]:
    return {"name": "s", "expectations": list(expectations)}


class Feed(Folder):
    """One pipeline; one file of readings is one batch."""

    def put(self, *readings: Reading | str) -> None:
        """One file of records; a text is put as it is."""
        texts = (each if isinstance(each, str) else json.dumps(each) for each in readings)
        self.land("\n".join(texts).encode())

    def backfill(self, start: str, end: str, **more: Any) -> Any:
        return self.engine.backfill("feed", Request.between(start, end), **more)

    def states(self) -> dict[str, str]:
        return {row.interval: row.state.value for row in self.engine.coverage("feed").rows}


def ids(readings: Iterable[Reading]) -> list[int]:
    return sorted(each["id"] for each in readings)
