"""Decides one command after another: what an aggregate stands at, a command, and what becomes of both. Pure.

The same steps are taken on a stream, in a dry replay and in tests. An aggregate is always continued from its state's JSON:
what comes out does not depend on whether two commands came in one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from pydantic import ValidationError

from tidemill.errors import StateError
from tidemill.eventsourcing.decider import Decider, Domain, Rejected
from tidemill.eventsourcing.envelope import CommandEnvelope, EventEnvelope
from tidemill.eventsourcing.messages import Command, Event, State, Unfit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_ID = 16
"""Of a command's id a hash of so many bytes is kept: among a billion, two are equal once in 10^20 times."""


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
    (empty: the initial one), hashes of the ids of every command that was decided, and why it cannot go on, if it cannot.
    """

    version: int = 0
    time: int = -(2**62)
    state: str = ""
    seen: bytes = b""
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
    """What a command does to its aggregate: events, or one refusal; nothing when its id was decided before."""
    mark = digest(command)
    if decided(standing, mark):
        return standing, ()
    try:
        after, events = _decided(domain, standing, command)
    except _Refused as refused:
        aggregate = aggregate_of(command.type)
        refusal = Refusal(command, aggregate, standing.version, refused.kind, refused.reason)
        return standing._replace(seen=standing.seen + mark), (refusal,)
    return after._replace(seen=standing.seen + mark), events


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


def remembered(standing: Standing, marks: Iterable[bytes]) -> Standing:
    """The standing that knows commands of these marks as decided."""
    known = {standing.seen[at : at + _ID] for at in range(0, len(standing.seen), _ID)}
    return standing._replace(seen=standing.seen + b"".join(sorted(set(marks) - known)))


def decided(standing: Standing, mark: bytes) -> bool:
    """Whether a command of this mark was decided before."""
    at = standing.seen.find(mark)
    while at >= 0 and at % _ID:
        at = standing.seen.find(mark, at + 1)
    return at >= 0


def digest(command: CommandEnvelope) -> bytes:
    """What tells a command from others: its id; all of it where it has none."""
    if command.id:
        return mark_of(command.id)
    return _marked(f"no id {command.type} {command.subject} {_micros(command.time)} {command.data}")


def mark_of(command_id: str) -> bytes:
    """What is remembered of a command with this id."""
    return _marked(f"id {command_id}")


@lru_cache(maxsize=1024)
def _marked(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=_ID).digest()


def _micros(time: datetime) -> int:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _TICK


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
