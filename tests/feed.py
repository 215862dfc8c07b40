"""A pipeline over a folder of JSON files, one file a batch, for tests of what a run does with what comes in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.errors import TidemillError
from tidemill.model import Pipeline

_PLAIN: dict[str, Any] = {
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


class Folder:
    """The pipeline, its files so far, and what its tables hold."""

    def __init__(self, root: Path, spark: SparkSession, **more: Any) -> None:
        self.root, self.spark, self.files = root, spark, 0
        (root / "in").mkdir(exist_ok=True)
        self.use(**more)

    def use(self, **more: Any) -> None:
        """From now on the pipeline is the plain one with these parts in place of its own."""
        plain = {name: part for name, part in _PLAIN.items() if name != "source" or "sources" not in more}
        self.pipeline: Pipeline = parse_pipeline({**plain, **more}, self.root)
        self.engine = Engine(Project(str(self.root), {"feed": self.pipeline}), spark=self.spark)

    def land(self, content: bytes, suffix: str = "json", name: str = "") -> Path:
        """One more file, younger than those before; it is there at once and whole."""
        self.files += 1
        path = self.root / "in" / f".{self.files}"
        path.write_bytes(content)
        os.utime(path, (1.7e9 + self.files, 1.7e9 + self.files))
        return path.rename(path.with_name(name or f"{self.files}.{suffix}"))

    def run(self) -> TidemillError | None:
        (outcome,) = self.engine.run("feed")
        return outcome.error

    def ids(self) -> list[int]:
        return sorted(row["id"] for row in self.table())

    def table(self) -> list[dict[str, Any]]:
        return _rows(self.pipeline.table.path)

    def quarantine(self) -> list[dict[str, Any]]:
        return _rows(self.pipeline.quarantine_path)


def _rows(path: str) -> list[dict[str, Any]]:
    return list(DeltaTable(path).to_pyarrow_table().to_pylist()) if DeltaTable.is_deltatable(path) else []
