"""A pipeline of readings over a folder of JSON files, for tests of suites in runs; what its table must hold is plain Python."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.errors import TidemillError
from tidemill.model import Pipeline
from tidemill.planning.selection import Request

Reading = Mapping[str, Any]
BETWEEN, NOT_NULL = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"


def reading(number: int, v: int | None, day: int = 1) -> Reading:
    return {"id": number, "at": f"2024-01-{day:02}T{number % 24:02}:00:00Z", "v": v}


def expectation(type_: str, action: str = "warn", **kwargs: Any) -> dict[str, Any]:
    return {"type": type_, "kwargs": kwargs, "meta": {"action": action}}


def suite(*expectations: dict[str, Any]) -> dict[str, Any]:
    return {"name": "s", "expectations": list(expectations)}


class Feed:
    """One pipeline; one file is one batch."""

    def __init__(self, root: Path, spark: SparkSession, **more: Any) -> None:
        self.root, self.spark, self.files = root, spark, 0
        (root / "in").mkdir(exist_ok=True)
        self.use(**more)

    def use(self, **more: Any) -> None:
        values = {
            "name": "feed",
            "source": {
                "files": {
                    "path": "in",
                    "format": "json",
                    "schema": "id INT, at TIMESTAMP, v INT",
                    "max_files_per_batch": 1,
                }
            },
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": "table"}},
            "trigger": {"available_now": True},
        }
        self.pipeline: Pipeline = parse_pipeline({**values, **more}, self.root)
        self.engine = Engine(Project(str(self.root), {"feed": self.pipeline}), spark=self.spark)

    def put(self, *readings: Reading | str) -> None:
        """One file of records; a text is put as it is."""
        self.files += 1
        path = self.root / "in" / f".{self.files}"
        path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in readings))
        os.utime(path, (1.7e9 + self.files, 1.7e9 + self.files))
        path.rename(path.with_name(f"{self.files}.json"))

    def run(self) -> TidemillError | None:
        (outcome,) = self.engine.run("feed")
        return outcome.error

    def backfill(self, start: str, end: str, **more: Any) -> Any:
        return self.engine.backfill("feed", Request.between(start, end), **more)

    def ids(self) -> list[int]:
        return sorted(row["id"] for row in self.table())

    def table(self) -> list[dict[str, Any]]:
        return self._rows(self.pipeline.table.path)

    def states(self) -> dict[str, str]:
        return {row.interval: row.state.value for row in self.engine.coverage("feed").rows}

    def quarantine(self) -> list[dict[str, Any]]:
        return self._rows(self.pipeline.quarantine_path)

    def _rows(self, path: str) -> list[dict[str, Any]]:
        return DeltaTable(path).to_pyarrow_table().to_pylist() if DeltaTable.is_deltatable(path) else []


def ids(readings: Iterable[Reading]) -> list[int]:
    return sorted(each["id"] for each in readings)
