"""Data files of a table: written, measured, not yet published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidemill.intervals import Grain, Interval, parse_label


@dataclass(frozen=True, slots=True)
class DataFile:
    """One parquet file below a table's root, of one interval.

    ``path`` is relative to the root; ``stats`` is the Delta protocol's statistics, as JSON text. ``action`` is
    set for files of Spark's writer alone: the Delta action that names them, and the rules they were written under.
    """

    path: str
    label: str
    size: int
    rows: int
    modified: int
    stats: str | None = None
    action: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, for manifests."""
        return {name: getattr(self, name) for name in self.__slots__}


def partition_value(grain: Grain, interval: Interval) -> str:
    """An interval as the Delta protocol writes its partition value."""
    text = interval.start.replace(tzinfo=None).isoformat(sep=" ")
    return text if grain is Grain.HOUR else text[:10]


def partition_values(grain: Grain, label: str) -> dict[str, str]:
    """The partition values of a file of an interval, by column."""
    return {name: partition_value(grain, parse_label(grain, label)) for name in grain.columns}


def partition_type(grain: Grain) -> str:
    """The type of the partition column."""
    return "timestamp" if grain is Grain.HOUR else "date"


def rows_by_label(files: tuple[DataFile, ...]) -> dict[str, int]:
    """Rows in each interval."""
    counts: dict[str, int] = {}
    for file in files:
        counts[file.label] = counts.get(file.label, 0) + file.rows
    return counts
