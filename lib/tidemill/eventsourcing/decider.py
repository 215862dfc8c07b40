"""The class that a project writes for each type of aggregate, and the set of them that share a store."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from tidemill.errors import ConfigError
from tidemill.eventsourcing.messages import Command, Event, Message, State, Unfit, check_chain

S = TypeVar("S", bound=State)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Rejected:
    """What ``decide`` returns in place of events, when the answer is no."""

    reason: str


class Decider(ABC, Generic[S]):
    """One type of aggregate. All methods are pure: what they return depends on what they are given alone.

    >>> class Counted(Event):
    ...     by: int
    >>> class Count(Command):
    ...     by: int
    >>> class Total(State):
    ...     n: int = 0
    >>> class Counter(Decider[Total]):
    ...     name, commands, events = "counter", (Count,), (Counted,)
    ...     def initial(self):
    ...         return Total()
    ...     def decide(self, state, command):
    ...         return [Counted(by=command.by)] if command.by > 0 else Rejected("it only counts up")
    ...     def evolve(self, state, event):
    ...         return Total(n=state.n + event.by)
    >>> Domain("/doc", Counter()).type_of(Counted)
    'counter.Counted'
    """

    name: ClassVar[str]
    """Names the type of aggregate, in the types of its messages too."""
    commands: ClassVar[tuple[type[Command], ...]]
    events: ClassVar[tuple[type[Event], ...]]

    @abstractmethod
    def initial(self) -> S:
        """The state of an aggregate that nothing has happened to."""

    @abstractmethod
    def decide(self, state: S, command: Any) -> Iterable[Event] | Rejected:
        """What happens, or why nothing does. No events are a rejection, too: every command leaves a trace."""

    @abstractmethod
    def evolve(self, state: S, event: Any) -> S:
        """The state after an event. It has happened: refusing it is too late."""


class Domain:
    """The deciders whose events share a store; what a pipeline's step ``decide`` names.

    ``source``: CloudEvents' name for where the events come from. Raises :class:`ConfigError` for names that are used
    twice and for upcasters that lead nowhere.
    """

    def __init__(self, source: str, *deciders: Decider[Any]) -> None:
        self.source = source
        self.deciders: Mapping[str, Decider[Any]] = {each.name: each for each in deciders}
        if not deciders:
            raise ConfigError(f"{source}: a domain needs a decider", next_step="give one an aggregate type")
        names = [each.name for each in deciders]
        for name in names:
            if not _NAME.fullmatch(name) or names.count(name) > 1:
                raise ConfigError(
                    f"{source}: a decider is named {name!r}",
                    next_step="give each a name of its own, of small letters, digits and _",
                )
        for decider in deciders:
            self._check(decider)

    @cached_property
    def _commands(self) -> dict[str, type[Command]]:
        return {f"{d.name}.{each.called}": each for d in self.deciders.values() for each in d.commands}

    @cached_property
    def _events(self) -> dict[str, type[Event]]:
        return {f"{d.name}.{each.called}": each for d in self.deciders.values() for each in d.events}

    @cached_property
    def _types(self) -> dict[type[Message], str]:
        return {kind: name for found in (self._commands, self._events) for name, kind in found.items()}

    def type_of(self, message: type[Message]) -> str:
        """The type of a message on the wire. Raises :class:`ConfigError` for one that no decider declares."""
        if message not in self._types:
            raise ConfigError(
                f"{self.source}: no decider declares {message.__name__}",
                next_step="name it among the commands or events of one",
            )
        return self._types[message]

    def command(self, kind: str, version: int, data: str) -> Command:
        """The command that an envelope holds. Raises :class:`Unfit`."""
        if kind not in self._commands:
            raise Unfit(f"there is no command {kind!r}; there are {', '.join(sorted(self._commands))}")
        return self._commands[kind].loaded(version, data)

    def event(self, kind: str, version: int, data: str) -> Event:
        """The event that an envelope holds, in its newest schema. Raises :class:`Unfit`."""
        if kind not in self._events:
            raise Unfit(f"there is no event {kind!r}; there are {', '.join(sorted(self._events))}")
        return self._events[kind].loaded(version, data)

    def _check(self, decider: Decider[Any]) -> None:
        declared: tuple[tuple[str, tuple[type[Message], ...]], ...] = (
            ("command", decider.commands),
            ("event", decider.events),
        )
        for kind, messages in declared:
            names = [each.called for each in messages]
            for message in messages:
                if names.count(message.called) > 1:
                    raise ConfigError(
                        f"{decider.name}: two {kind}s are called {message.called!r}",
                        next_step="say called=... at one of them",
                    )
                check_chain(message)
                # A class that names another before that is there is finished only now; workers get it finished.
                message.model_rebuild()
        owned: list[type[Message]] = [
            each
            for other in self.deciders.values()
            if other is not decider
            for each in (*other.commands, *other.events)
        ]
        for message in (*decider.commands, *decider.events):
            if message in owned:
                raise ConfigError(
                    f"{self.source}: {message.__name__} is declared by {decider.name} and by another decider",
                    next_step="give each aggregate type messages of its own",
                )
        type(decider.initial()).model_rebuild()
