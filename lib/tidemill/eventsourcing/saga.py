"""Process managers: what has happened to one aggregate asks something of another. Pure.

A saga keeps no state: all that a step needs is in the event or the refusal that calls for it. Its commands' ids follow from
what they are for, so that a step that is taken twice asks once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tidemill.eventsourcing.decider import Domain
from tidemill.eventsourcing.envelope import CommandEnvelope, EventEnvelope
from tidemill.eventsourcing.interpreter import Refusal, event_in
from tidemill.eventsourcing.messages import Command, Unfit


@dataclass(frozen=True, slots=True)
class Ask:
    """A command for an aggregate. ``id``: the same whenever this step is taken, and no other command's."""

    id: str
    subject: str
    command: Command


class Saga:
    """A process over several aggregates. Override what it reacts to; both methods are pure."""

    def on_event(self, event: Any, envelope: EventEnvelope) -> Iterable[Ask]:
        """What an event calls for."""
        del event, envelope
        return ()

    def on_refusal(self, command: Any, refusal: Refusal) -> Iterable[Ask]:
        """What it calls for that nothing came of a command. Not asked of those that no code can read."""
        del command, refusal
        return ()


def after_event(saga: Saga, domain: Domain, envelope: EventEnvelope) -> Iterator[CommandEnvelope]:
    """The commands that an event calls for. Raises :class:`StateError` where it cannot be read."""
    for each in saga.on_event(event_in(domain, envelope), envelope):
        yield _asked(domain, each, envelope.id, envelope.correlationid, envelope)


def after_refusal(saga: Saga, domain: Domain, refusal: Refusal) -> Iterator[CommandEnvelope]:
    """The commands that a refusal calls for; none where the command is none that can be read."""
    asked = refusal.command
    try:
        command = domain.command(str(asked.type), asked.schemaversion or 1, asked.data)
    except Unfit:
        return
    for each in saga.on_refusal(command, refusal):
        yield _asked(domain, each, asked.id, asked.correlationid or asked.id, asked)


def _asked(
    domain: Domain,
    ask: Ask,
    cause: str | None,
    correlation: str | None,
    after: EventEnvelope | CommandEnvelope,
) -> CommandEnvelope:
    return CommandEnvelope(
        id=ask.id,
        type=domain.type_of(type(ask.command)),
        subject=ask.subject,
        time=after.time,
        data=ask.command.model_dump_json(),
        source=domain.source,
        schemaversion=ask.command.schema_version,
        causationid=cause,
        correlationid=correlation,
    )
