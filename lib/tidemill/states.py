"""The states of a fold without a horizon at a moment, read without a JVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from tidemill.display.states import states_html
from tidemill.errors import PlanError
from tidemill.intervals import Interval, interval_at, parse_moment, utc
from tidemill.ledger import chain
from tidemill.ledger.coverage import sealed
from tidemill.ledger.judge import NOT_CLEAN
from tidemill.model import Pipeline
from tidemill.sinks.snapshots import files_of
from tidemill.sinks.table import LogTable
from tidemill.storage import parquet, place
from tidemill.view import View, shape_of


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key, by its columns, and its state, by its fields. ``since``: from when on, to the end of an interval."""

    key: Mapping[str, Any]
    state: Mapping[str, Any]
    since: datetime


@dataclass(frozen=True, slots=True)
class StatesAt:
    """The states at a moment: of all rows before it, and all timers before it.

    ``at``: the end of an interval, the last at or before the moment that was asked for. ``why``: for what reason they may
    not be those that today's code gives; None where they are.
    """

    pipeline: str
    at: datetime
    keys: tuple[KeyState, ...]
    why: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        keys = [
            {"key": dict(each.key), "state": dict(each.state), "since": each.since.isoformat()}
            for each in self.keys
        ]
        return {"pipeline": self.pipeline, "at": self.at.isoformat(), "why": self.why, "keys": keys}

    def _repr_html_(self) -> str:
        return states_html(self)


def key_columns(pipeline: Pipeline) -> tuple[str, ...]:
    """The columns of the keys whose states a pipeline keeps; none where it keeps none."""
    table = LogTable.open(pipeline.states_path, pipeline.grain)
    fields = () if table is None else table.schema["fields"]
    return tuple(
        each["name"] for field in fields if field["name"] == "key" for each in field["type"]["fields"]
    )


def states_at(view: View, at: datetime | str, key: Mapping[str, Any] | None = None) -> StatesAt:
    """The states at the last interval end at or before ``at``; of the keys that have these values, where they are given: a
    list of them means any of these.

    Raises :class:`PlanError` where no states are kept, or none as late as that.
    """
    pipeline, coverage, grain = view.pipeline, view.coverage, view.pipeline.grain
    moment = parse_moment(at) if isinstance(at, str) else utc(at)
    if not coverage.carries:
        raise PlanError(
            f"{pipeline.name} keeps no states at interval ends",
            next_step="a fold without a horizon does, from its first batch or backfill on",
        )
    first = interval_at(grain, moment)
    ends = [each.interval for each in view.judged if sealed(coverage, each.interval, shape_of(pipeline))]
    if not ends or first.start > max(ends).end:
        last = f"the last are those at {max(ends).end:%Y-%m-%dT%H:%M}" if ends else "there are none yet"
        raise PlanError(
            f"{pipeline.name}: no states are kept at {first.start:%Y-%m-%dT%H:%M}", next_step=last
        )
    found = chain.standing(coverage, grain, first)
    if found.seam is not None:
        raise PlanError(
            f"{pipeline.name}: the states at {first.start:%Y-%m-%dT%H:%M} come from two chains that do not join at {found.seam}",
            next_step=f"tidemill backfill {pipeline.name} --dirty",
        )
    before = [each for each in view.judged if each.interval < first and each.state in NOT_CLEAN]
    why = f"{before[0].interval} is {before[0].state.value}: {before[0].why}" if before else None
    keys = _read(view, first, key or {}) if found.made else []
    return StatesAt(
        pipeline.name, first.start, tuple(sorted(keys, key=lambda each: str(dict(each.key)))), why
    )


def _read(view: View, first: Interval, wanted: Mapping[str, Any]) -> list[KeyState]:
    table, files = files_of(view.pipeline, view.coverage, first)
    seen: set[tuple[Any, ...]] = set()
    found = []
    # The newest of a key is the one that counts.
    for file in sorted(files, key=lambda each: each.label, reverse=True):
        opened = pq.ParquetFile(parquet(place(table.path) / file.path))
        for batch in opened.iter_batches(columns=["until", "key", "state", "gone"]):
            for row in batch.to_pylist():
                key = row["key"]
                if not all(_meant(key, name, value) for name, value in wanted.items()):
                    continue
                values = tuple(key.values())
                if values not in seen:
                    seen.add(values)
                    if not row["gone"]:
                        found.append(KeyState(key, row["state"], utc(row["until"])))
    return found


def _meant(key: Mapping[str, Any], name: str, value: Any) -> bool:
    if name not in key:
        raise PlanError(f"{name!r} is not of the key", next_step=f"the key is {', '.join(key)}")
    wanted = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    return any(key[name] == each or str(key[name]) == str(each) for each in wanted)
