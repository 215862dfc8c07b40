"""How long events wait until a table's readers see them: from when they were due to the commit that holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class Waits:
    """``due``: when each row was due, in seconds since the epoch, in order; ``waited``: for how many seconds."""

    due: np.ndarray[Any, Any]
    waited: np.ndarray[Any, Any]

    def between(self, begin: float, end: float) -> np.ndarray[Any, Any]:
        """The waits of rows that were due in ``[begin, end)``."""
        first, last = np.searchsorted(self.due, [begin, end])
        return self.waited[first:last]


def waits(table: Path, column: str = "at") -> Waits:
    """The waits of all rows of a table, by ``column``, which says when they were due.

    A row is readable from the time on at which the log got the entry of its commit.
    """
    due, waited = [np.empty(0)], [np.empty(0)]
    for entry in _entries(table):
        readable = entry.stat().st_mtime_ns / 1e9
        for path in _added(entry):
            micros = pc.cast(pq.read_table(table / path, columns=[column])[column], "int64").to_numpy()
            due.append(micros / 1e6)
            waited.append(readable - micros / 1e6)
    all_due, all_waited = np.concatenate(due), np.concatenate(waited)
    order = np.argsort(all_due, kind="stable")
    return Waits(all_due[order], all_waited[order])


def newest(table: Path, column: str = "at") -> float:
    """When the newest row was due that readers see, in seconds since the epoch; 0 without one."""
    for entry in reversed(_entries(table)):
        adds = [json.loads(line)["add"] for line in _lines(entry)]
        texts = [json.loads(each["stats"])["maxValues"][column] for each in adds if each.get("stats")]
        if texts:
            return float(np.datetime64(max(texts).rstrip("Z"), "us").astype("int64")) / 1e6
    return 0.0


def _entries(table: Path) -> list[Path]:
    return sorted(each for each in (table / "_delta_log").glob("*.json") if each.stem.isdigit())


def _added(entry: Path) -> list[str]:
    return [unquote(json.loads(line)["add"]["path"]) for line in _lines(entry)]


def _lines(entry: Path) -> list[str]:
    return [line for line in entry.read_text(encoding="utf-8").splitlines() if line.startswith('{"add"')]
