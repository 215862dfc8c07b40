"""Deciding as a fold: one aggregate a key, its commands the rows, what becomes of them the output."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from pyspark import TaskContext

from tidemill.deciding.carried import opened
from tidemill.deciding.marks import MARK
from tidemill.deciding.seeds import NO_SEED, Seed, is_known, standing_of
from tidemill.eventsourcing import CommandEnvelope, EventEnvelope, Standing, handle
from tidemill.eventsourcing.envelope import EVENT_COLUMNS, REFUSAL_COLUMNS
from tidemill.eventsourcing.interpreter import Outcome
from tidemill.folds import Fold

AGGREGATE, SUBJECT, WHOLE = "aggregate", "subject", "whole"
"""The columns of the key, "" where a command has none, and that of all else that a command is, as JSON."""
EXPECTED = "expectedversion"
AGAIN = "tidemill.again"
"""The property of a job that makes a batch again which is published: what it decided is in its events, and in the seed."""
_NOTHING: dict[str, Any] = {"id": None, "type": None, "subject": None, "data": ""}
COLUMNS = {**EVENT_COLUMNS, EXPECTED: "BIGINT", **REFUSAL_COLUMNS}


class Kept(NamedTuple):
    """A :class:`Standing` in the state store, and the code that made it, see :class:`~tidemill.deciding.seeds.Seed`."""

    code: str
    version: int
    time: int
    body: str
    problem: str


class Deciding(Fold[Kept]):
    """Decides commands as they arrive: what is decided is a fact, and its order is that of arrival."""

    key, time, order_by = (AGGREGATE, SUBJECT), "time", ("id", WHOLE)
    state = "code STRING, version BIGINT, time BIGINT, body STRING, problem STRING"
    output = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    emit = "immediate"
    once = MARK
    buckets: ClassVar[int] = 16

    def __init__(self, domain: bytes, seed: Seed = NO_SEED) -> None:
        self.domain = domain
        self.seed = seed

    def zero(self) -> Kept:
        """Nothing is known of an aggregate, not even whether the store has events of it."""
        return Kept("", *Standing())

    def step(self, state: Kept, row: Any) -> tuple[Kept, list[tuple[Any, ...]]]:
        """One command."""
        command = as_asked(row.whole, row.time)
        key = getattr(row, AGGREGATE), getattr(row, SUBJECT)
        # What other code has left in the state store may be the state no longer: the events are.
        stands = Standing(*state[1:]) if state.code == self.seed.code else standing_of(self.seed, *key)
        stands, outcomes = handle(opened(self.domain), stands, command)
        # Where there is no event yet, nothing has to be kept: what was refused is known by its mark.
        after = self.zero() if stands == Standing() else Kept(self.seed.code, *stands)
        return after, [as_row(each) for each in outcomes]

    def known(self, value: bytes) -> bool:
        """Whether the command of a mark was decided before the seed was planted; :data:`AGAIN`, no other is decided either."""
        context = TaskContext.get()
        return bool(context and context.getLocalProperty(AGAIN)) or is_known(self.seed, value)


def as_asked(whole: str, time: datetime) -> CommandEnvelope:
    """The command of which all but the time is ``whole``; Spark's JSON leaves out what is null."""
    return CommandEnvelope(**_NOTHING | json.loads(whole), time=time)


def as_row(outcome: Outcome) -> tuple[Any, ...]:
    """What became of a command, as a row of :data:`COLUMNS`."""
    if isinstance(outcome, EventEnvelope):
        return (*(getattr(outcome, name) for name in EVENT_COLUMNS), None, None, None)
    asked = outcome.command
    return (
        asked.id,
        asked.source,
        asked.type,
        asked.subject,
        outcome.aggregate,
        outcome.version,
        asked.time,
        asked.data,
        asked.schemaversion,
        asked.causationid,
        asked.correlationid,
        asked.expectedversion,
        outcome.kind.value,
        outcome.reason,
    )
