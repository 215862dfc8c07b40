"""Decides one command after another: what an aggregate stands at, a command, and what becomes of both. Pure.

The same steps are taken on a stream, in a dry replay and in tests. An aggregate is always continued from its state's JSON:
what comes out does not depend on whether two commands came in one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import ValidationError

from tidemill.errors import StateError
from tidemill.eventsourcing.decider import Decider, Domain, Rejected
from tidemill.eventsourcing.envelope import CommandEnvelope, EventEnvelope
from tidemill.eventsourcing.messages import Command, Event, State, Unfit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


class Kind(StrEnum):
    """Why nothing came of a command."""

    REJECTED = "rejected"
    """``decide`` said no."""
    NOTHING = "nothing"
    """``decide`` gave no event."""
    CONFLICT = "conflict"
    """The aggregate was not at the version that the command expects."""
    INVALID = "invalid"
    """It is none that this code can take: of no known type, of a newer schema, without a key, with data that do not fit."""
    FAILED = "failed"
    """``decide`` or ``evolve`` raised, or the aggregate's own events cannot be read."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command of which nothing came, and why; ``version``: the aggregate's then."""

    command: CommandEnvelope
    aggregate: str
    version: int
    kind: Kind
    reason: str


Outcome = EventEnvelope | Refusal


class Standing(NamedTuple):
    """What is kept of an aggregate: its version, the time of its newest event (epoch microseconds), its state as JSON
    (empty: the initial one), and why it cannot go on, if it cannot.
    """

    version: int = 0
    time: int = -(2**62)
    state: str = ""
    problem: str = ""


def aggregate_of(kind: str | None) -> str:
    """The aggregate that a type of message belongs to.

    >>> aggregate_of("account.Open")
    'account'
    """
    return (kind or "").partition(".")[0]


def handle(
    domain: Domain, standing: Standing, command: CommandEnvelope
) -> tuple[Standing, tuple[Outcome, ...]]:
    """What a command does to its aggregate: events, or one refusal, which leaves the standing as it is.

    Whether a command was decided before is not known here: who calls leaves out what has come again, by its id.
    """
    try:
        return _decided(domain, standing, command)
    except _Refused as refused:
        aggregate = aggregate_of(command.type)
        return standing, (Refusal(command, aggregate, standing.version, refused.kind, refused.reason),)


class _Refused(Exception):  # the way out of deciding
    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def _decided(
    domain: Domain, standing: Standing, command: CommandEnvelope
) -> tuple[Standing, tuple[EventEnvelope, ...]]:
    asked = _taken(domain, standing, command)
    decider = domain.deciders[aggregate_of(command.type)]
    try:
        state = state_of(decider, standing)
        answer = decider.decide(state, asked)
        made = () if isinstance(answer, Rejected) else tuple(answer)
        envelopes = tuple(_enveloped(domain, decider, standing, command, made))
        for event in made:
            state = decider.evolve(state, event)
        text = _as_text(decider, state)
    except Exception as error:
        # The project's own code may raise anything.
        raise _Refused(Kind.FAILED, f"{command}: {type(error).__name__}: {error}") from error
    if isinstance(answer, Rejected):
        raise _Refused(Kind.REJECTED, str(answer.reason))
    if not made:
        raise _Refused(Kind.NOTHING, "nothing to do")
    time = _micros(envelopes[-1].time)
    return standing._replace(version=standing.version + len(made), time=time, state=text), envelopes


def _taken(domain: Domain, standing: Standing, command: CommandEnvelope) -> Command:
    """The command that an envelope holds, if it may be decided."""
    for what, value in (("id", command.id), ("type", command.type), ("subject", command.subject)):
        if not value:
            raise _Refused(Kind.INVALID, f"the command has no {what}")
    if standing.problem:
        raise _Refused(Kind.FAILED, standing.problem)
    try:
        version = 1 if command.schemaversion is None else command.schemaversion
        asked = domain.command(str(command.type), version, command.data)
    except Unfit as error:
        raise _Refused(Kind.INVALID, f"{command}: {error}") from error
    expected = command.expectedversion
    if expected is not None and expected != standing.version:
        raise _Refused(
            Kind.CONFLICT, f"{command} expects version {expected}, and it is at {standing.version}"
        )
    return asked


def _enveloped(
    domain: Domain, decider: Decider[Any], standing: Standing, command: CommandEnvelope, made: Iterable[Event]
) -> Iterator[EventEnvelope]:
    time = _moment(max(standing.time, _micros(command.time)))
    for version, event in enumerate(made, start=standing.version + 1):
        if type(event) not in decider.events:
            raise TypeError(f"decide gave {event!r}, which is no event of {decider.name}")
        yield EventEnvelope(
            id=f"{decider.name}/{command.subject}/{version}",
            source=domain.source,
            type=domain.type_of(type(event)),
            subject=str(command.subject),
            aggregate=decider.name,
            version=version,
            time=time,
            data=_kept(event),
            schemaversion=event.schema_version,
            causationid=command.id,
            correlationid=command.correlationid or command.id,
        )


def state_of(decider: Decider[Any], standing: Standing) -> Any:
    """An aggregate's state."""
    initial = decider.initial()
    return type(initial).model_validate_json(standing.state) if standing.state else initial


def _as_text(decider: Decider[Any], state: Any) -> str:
    kind = type(decider.initial())
    if not isinstance(state, State) or type(state) is not kind:
        raise TypeError(f"evolve gave {state!r}, and initial gives {kind.__name__}")
    return _kept(state)


def _kept(value: Event | State) -> str:
    """An event or a state as JSON, from which it can be had again."""
    text = value.model_dump_json()
    try:
        same = type(value).model_validate_json(text) == value
    except ValidationError:
        same = False
    if not same:
        raise ValueError(f"{value!r} does not come back from its JSON as it was: {text}")
    return text


def event_in(domain: Domain, envelope: EventEnvelope) -> Event:
    """The event that an envelope holds, in its newest schema. Raises :class:`StateError` where today's code cannot read it."""
    try:
        return domain.event(envelope.type, envelope.schemaversion, envelope.data)
    except Unfit as error:
        raise StateError(
            f"{envelope} cannot be read: {error}",
            next_step="run the newer code, or give it an upcaster",
            event=envelope.id,
        ) from None


def folded(domain: Domain, events: Iterable[EventEnvelope], standing: Standing = Standing()) -> Standing:  # noqa: B008
    """Where the events of one aggregate, in the order of their versions, leave it.

    Raises :class:`StateError` naming the event that is missing, of a newer schema, of no known type, or that ``evolve``
    does not take.
    """
    state: Any = None
    for each in events:
        decider = domain.deciders.get(each.aggregate)
        if each.version != standing.version + 1:
            raise StateError(
                f"{each} follows version {standing.version} of {each.aggregate} {each.subject}",
                next_step="the store is damaged: versions have no gap; look for who else writes its table",
                event=each.id,
            )
        try:
            if decider is None:
                raise Unfit(f"there is no aggregate {each.aggregate!r}")  # noqa: TRY301  # as any other unfit event
            event = domain.event(each.type, each.schemaversion, each.data)
            state = decider.evolve(state_of(decider, standing) if state is None else state, event)
            text = _as_text(decider, state)
        except Exception as error:
            newer = isinstance(error, Unfit) and error.newer
            said = str(error) if isinstance(error, Unfit) else f"{type(error).__name__}: {error}"
            raise StateError(
                f"{each} of {each.aggregate} {each.subject} cannot be read: {said}",
                next_step="run the newer code" if newer else "give it an upcaster, or mend evolve",
                event=each.id,
            ) from error
        # The state goes on by itself from here; who continues from JSON gets an equal one.
        standing = standing._replace(
            version=each.version, time=max(standing.time, _micros(each.time)), state=text
        )
    return standing


def _micros(time: datetime) -> int:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _TICK


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
