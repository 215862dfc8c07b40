"""The state of one aggregate of an event store, now, at a version or at a time. Read without a JVM."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pyarrow.compute as pc

from tidemill.errors import PlanError, StateError
from tidemill.eventsourcing import Domain, EventEnvelope, folded
from tidemill.eventsourcing.envelope import EVENT_COLUMNS
from tidemill.eventsourcing.interpreter import state_of
from tidemill.intervals import utc
from tidemill.ledger import log
from tidemill.model import Pipeline
from tidemill.sinks.table import look


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate's state after its first ``version`` events, the ``events`` that led there, and how many there are now."""

    pipeline: str
    aggregate: str
    subject: str
    version: int
    state: dict[str, Any]
    events: tuple[EventEnvelope, ...] = field(repr=False)
    newest: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        body = {name: getattr(self, name) for name in self.__slots__}
        return body | {"events": [each.as_json() for each in self.events]}


def aggregate_at(
    pipeline: Pipeline,
    domain: Domain,
    name: str,
    *,
    version: int | None = None,
    at: datetime | None = None,
) -> Aggregate:
    """The state of ``name`` (``account/17``) by today's code: after ``version`` events, or after all up to ``at``.

    Times of an aggregate's events never go back, so either is a beginning of its events. Raises :class:`PlanError` for
    an aggregate that is not there, a version that it has not reached and a time before its first event;
    :class:`StateError` naming an event that today's code cannot read.
    """
    kind, slash, subject = name.partition("/")
    if not slash or kind not in domain.deciders:
        raise PlanError(
            f"{name!r} names no aggregate",
            next_step=f"say TYPE/SUBJECT; types: {', '.join(sorted(domain.deciders))}",
        )
    if version is not None and at is not None:
        raise PlanError("a version and a time are asked for at once", next_step="say one of them")
    events = tuple(_events(pipeline, kind, subject))
    if not events:
        raise _nothing_of(pipeline, kind, subject)
    chosen = events
    if version is not None:
        chosen = events[: max(version, 0)]
        if len(chosen) != version:
            raise PlanError(
                f"{name} has no version {version}",
                next_step=f"it is at version {len(events)}",
                version=len(events),
            )
    if at is not None:
        chosen = tuple(each for each in events if utc(each.time) <= utc(at))
        if not chosen:
            first = utc(events[0].time).isoformat()
            raise PlanError(
                f"{name} has no event up to {utc(at).isoformat()}", next_step=f"its first is of {first}"
            )
    standing = folded(domain, chosen)
    state = state_of(domain.deciders[kind], standing).model_dump(mode="json")
    return Aggregate(pipeline.name, kind, subject, standing.version, state, chosen, len(events))


def _nothing_of(pipeline: Pipeline, kind: str, subject: str) -> PlanError:
    if not log.exists(pipeline.table.path):
        return PlanError(
            f"{pipeline.name} has decided nothing yet",
            next_step=f"run it: tidemill run {pipeline.name} --available-now",
        )
    of = subject.replace("'", "''")
    asked = f"SELECT type, kind, reason FROM {pipeline.name}_rejections WHERE subject = '{of}'"
    quoted = shlex.quote(asked) if set(asked) & set('"$`\\!') else f'"{asked}"'
    return PlanError(
        f"{pipeline.name} has no event of {kind}/{subject}",
        next_step=f"whether its commands were refused: tidemill query {quoted}",
    )


def _events(pipeline: Pipeline, kind: str, subject: str) -> Iterator[EventEnvelope]:
    if not log.exists(pipeline.table.path):
        return
    wanted = (pc.field("aggregate") == kind) & (pc.field("subject") == subject)
    columns = [*EVENT_COLUMNS, "position"]
    found = look(pipeline.table.path).to_pyarrow_dataset().to_table(columns=columns, filter=wanted)
    for number, row in enumerate(sorted(found.to_pylist(), key=lambda each: int(each["version"])), start=1):
        envelope = EventEnvelope(**row)
        if envelope.version != number:
            raise StateError(
                f"{pipeline.table.path}: version {number} of {kind}/{subject} is {envelope}",
                next_step="the store is damaged: versions have no gap; look for who else writes its table",
                event=envelope.id,
            )
        yield replace(envelope, time=utc(envelope.time))


def rejected(pipeline: Pipeline) -> int:
    """How many commands of an event store nothing came of."""
    return int(look(pipeline.rejections_path).to_pyarrow_dataset().count_rows())
