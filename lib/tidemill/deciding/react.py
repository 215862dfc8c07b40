"""Sagas and upcasters over frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

from tidemill.deciding.carried import both, carried, opened
from tidemill.deciding.seeds import command_of
from tidemill.eventsourcing import CommandEnvelope, Domain, EventEnvelope, Refusal, Saga
from tidemill.eventsourcing.envelope import COMMAND_COLUMNS, EVENT_COLUMNS
from tidemill.eventsourcing.interpreter import Kind, event_in
from tidemill.eventsourcing.saga import after_event, after_refusal

_COMMANDS = ", ".join(f"{name} {kind}" for name, kind in COMMAND_COLUMNS.items())


def react(domain: Domain, saga: Saga, *, events: DataFrame, rejections: DataFrame) -> DataFrame:
    """The commands that a saga asks for, of an event store and its table of rejections; streams or batches.

    A command's ``time`` is that of the event or the command which it follows. Raises, in its tasks, :class:`StateError`
    naming an event that today's code cannot read.

    >>> react(BANK, Transfers(), events=events, rejections=rejections)  # doctest: +SKIP
    """
    return (
        events.mapInArrow(_Rows(carried(domain, saga), of_events=True), _COMMANDS)
        .unionByName(rejections.mapInArrow(_Rows(carried(domain, saga), of_events=False), _COMMANDS))
    )  # fmt: skip


def upcast(events: DataFrame, domain: Domain) -> DataFrame:
    """The rows of an event store with ``data`` and ``schemaversion`` as today's code has them; nothing else changes.

    Raises, in its tasks, :class:`StateError` naming an event of an unknown type or of a newer schema.

    >>> upcast(events, BANK).where("type = 'account.Withdrawn'")  # doctest: +SKIP
    """
    schema = to_arrow_schema(events.schema, timezone="UTC")
    return events.mapInArrow(_Upcast(carried(domain), schema), events.schema)


@dataclass(frozen=True)
class _Rows:
    both: bytes
    of_events: bool

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        domain, saga = both(self.both)
        asks: Callable[[dict[str, Any]], Iterable[CommandEnvelope]] = (
            (lambda row: after_event(saga, domain, event_of(row)))
            if self.of_events
            else (lambda row: after_refusal(saga, domain, refusal_of(row)))
        )
        for batch in batches:
            made = [each for row in batch.to_pylist() for each in asks(row)]
            if made:
                yield _as_batch(made)


def _as_batch(commands: list[CommandEnvelope]) -> pa.RecordBatch:
    types = {
        "STRING": pa.string(),
        "INT": pa.int32(),
        "BIGINT": pa.int64(),
        "TIMESTAMP": pa.timestamp("us", "UTC"),
    }
    return pa.RecordBatch.from_arrays(
        [
            pa.array([getattr(c, name) for c in commands], types[kind])
            for name, kind in COMMAND_COLUMNS.items()
        ],
        names=list(COMMAND_COLUMNS),
    )


@dataclass(frozen=True)
class _Upcast:
    domain: bytes
    schema: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        domain = opened(self.domain)
        for batch in batches:
            rows = batch.to_pylist()
            for row in rows:
                envelope = event_of(row)
                event = event_in(domain, envelope)
                if event.schema_version != envelope.schemaversion:
                    row |= {"data": event.model_dump_json(), "schemaversion": event.schema_version}
            yield pa.RecordBatch.from_pylist(rows, self.schema)


def event_of(row: dict[str, Any]) -> EventEnvelope:
    """The event of a row of an event store."""
    return EventEnvelope(**{name: row[name] for name in EVENT_COLUMNS}, position=row.get("position"))


def refusal_of(row: dict[str, Any]) -> Refusal:
    """The refusal of a row of the table of rejections."""
    return Refusal(command_of(row), row["aggregate"], row["version"], Kind(row["kind"]), row["reason"])
