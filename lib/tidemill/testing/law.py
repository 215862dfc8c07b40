"""The law, asked of a table: an interval that is called clean holds exactly what the oracle says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.intervals import ALL_LABEL, BEGINNING, Grain, interval_at, parse_moment
from tidemill.ledger import inputs, log
from tidemill.ledger.judge import State
from tidemill.model import Pipeline
from tidemill.reports import Coverage
from tidemill.testing.source import Event, MemorySource
from tidemill.view import View

Row = tuple[tuple[str, Any], ...]
"""A row: names and values, by name."""
Rows = dict[str, Counter[Row]]
"""Rows by interval label, each with how often it is there."""


@dataclass(frozen=True, slots=True)
class Breach:
    """What breaks the law in one interval: rows that are missing, rows that should not be there, or a wrong count."""

    interval: str
    state: str
    lost: tuple[Row, ...] = ()
    surplus: tuple[Row, ...] = ()
    counted: tuple[int, int] | None = None
    """Rows by the ledger, rows in the table."""

    def __str__(self) -> str:
        parts = [f"{self.interval} ({self.state}):"]
        for what, rows in (("lost", self.lost), ("surplus", self.surplus)):
            if rows:
                parts.append(f"{len(rows)} {what}, {dict(rows[0])} among them")
        if self.counted:
            parts.append(f"the ledger counts {self.counted[0]} rows, the table has {self.counted[1]}")
        return " ".join(parts)


def rows_of(pipeline: Pipeline, version: int | None = None) -> Rows:
    """What a pipeline's table holds, now or at a version, without Spark; moments in UTC. Empty when there is none."""
    if not log.exists(pipeline.table.path):
        return {}
    from deltalake import DeltaTable

    found: Rows = defaultdict(Counter)
    column = pipeline.partition_column
    for row in DeltaTable(pipeline.table.path, version=version).to_pyarrow_table().to_pylist():
        label = interval_at(pipeline.grain, parse_moment(str(row.pop(column)))).label if column else ALL_LABEL
        found[label][_row(row)] += 1
    return dict(found)


def expected(pipeline: Pipeline, rows: Iterable[Mapping[str, Any]]) -> Rows:
    """An oracle's rows by the interval that they belong to; moments must carry their zone."""
    found: Rows = defaultdict(Counter)
    for row in rows:
        at = BEGINNING if pipeline.grain is Grain.ALL else row[pipeline.interval_column]
        found[interval_at(pipeline.grain, at).label][_row(row)] += 1
    return dict(found)


def published(view: View, sources: Mapping[str, MemorySource]) -> dict[str, list[Event]]:
    """The events of each input that the table claims to hold: what its stream had read by its last batch.

    Without a live stream, all of them.
    """
    if not view.coverage.live:
        return {name: source.events for name, source in sources.items()}
    return {name: source.read(files_of(view, name)) for name, source in sources.items()}


def files_of(view: View, name: str) -> list[str]:
    """The files of one input that a table's stream had read by its last batch."""
    end = (view.coverage.source_end or {}).get(name)
    if end is None or not end.get("offset"):
        return []
    checkpoint = f"{view.pipeline.table.state_path}/checkpoint"
    return inputs.files_read(checkpoint, end["place"], -1, int(end["offset"]["logOffset"]))


def breaches(view: View, rows: Iterable[Mapping[str, Any]], *, whole: bool = False) -> list[Breach]:
    """Where a pipeline's table breaks the law, by an oracle's ``rows``; nowhere is an empty list.

    The rows are those of what the table claims to hold, see :func:`published`.

    Every interval that the ledger calls clean, or does not know, must hold exactly what the oracle says; in all of them
    the ledger must count what the table has. ``whole``: every interval must hold what the oracle says, whatever it is
    called.
    """
    if not (whole or view.coverage.live or view.coverage.intervals):
        return []  # nothing was published, and nothing is claimed
    # The table as the ledger saw it: a live stream may have gone on since.
    want, have = expected(view.pipeline, rows), rows_of(view.pipeline, view.coverage.version)
    known = {row.interval: row for row in Coverage.of(view).rows}
    found = []
    for label in sorted(want.keys() | have.keys() | known.keys()):
        state = known[label].state if label in known else None
        wanted, held = want.get(label, Counter()), have.get(label, Counter())
        counted = known[label].rows if label in known else 0
        judged = whole or state in {None, State.CLEAN}
        lost = tuple((wanted - held).elements()) if judged else ()
        surplus = tuple((held - wanted).elements()) if judged else ()
        wrong = (counted, held.total()) if counted != held.total() else None
        if lost or surplus or wrong:
            found.append(Breach(label, str(state or "unknown"), lost, surplus, wrong))
    return found


def _row(row: Mapping[str, Any]) -> Row:
    return tuple((name, _hashable(row[name])) for name in sorted(row))


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((key, _hashable(each)) for key, each in value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
