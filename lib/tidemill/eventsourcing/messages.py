"""What a project declares of its commands, events and states: frozen pydantic models, with a name and a version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tidemill.errors import ConfigError

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""From a message's data at one schema version to its data at the next."""


class Unfit(Exception):  # not an error of ours: the message at hand cannot be taken
    """A message that today's code cannot take, with the reason; ``newer``: another code wrote it, later than this one."""

    def __init__(self, reason: str, *, newer: bool = False) -> None:
        super().__init__(reason)
        self.newer = newer


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class State(_Value):
    """An aggregate's state; it is kept as JSON, so what comes back from that must be equal to it."""


class Message(_Value):
    """A command or an event: frozen, without keys that it does not know.

    ``class Opened(Event, version=2)``: the version of its schema, 1 by default. ``called`` is its name on the wire, the
    class's own by default; the wire's type is the aggregate's name, a dot, and this.

    ``upcasters`` holds for each version before the newest how data of it becomes data of the next.

    >>> class Opened(Event, version=2):
    ...     upcasters = {1: lambda data: {**data, "currency": "EUR"}}
    ...     owner: str
    ...     currency: str
    >>> Opened.loaded(1, '{"owner": "ann"}')
    Opened(owner='ann', currency='EUR')
    """

    schema_version: ClassVar[int] = 1
    called: ClassVar[str] = ""
    upcasters: ClassVar[Mapping[int, Upcaster]] = {}

    def __init_subclass__(cls, *, version: int = 1, called: str | None = None, **others: Any) -> None:
        super().__init_subclass__(**others)
        cls.schema_version = version
        cls.called = called or cls.__name__

    @classmethod
    def loaded(cls, version: int, data: str) -> Self:
        """The message that ``data``, JSON of schema ``version``, means today. Raises :class:`Unfit`."""
        if version > cls.schema_version:
            raise Unfit(
                f"schema version {version} is newer than {cls.schema_version}, the newest that this code knows",
                newer=True,
            )
        if version < 1:
            raise Unfit(f"schema version {version} is none: they count from 1")
        if not data.strip():
            raise Unfit("it has no data; one without fields has {}")
        try:
            if version == cls.schema_version:
                return cls.model_validate_json(data)
            values = json.loads(data)
            for each in range(version, cls.schema_version):
                values = cls.upcasters[each](values)
            # As from the wire: whatever is JSON's way to write a value is read as that value.
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            raise Unfit(_said(error)) from None
        except Exception as error:
            raise Unfit(f"its data cannot be read: {type(error).__name__}: {error}") from error


class Command(Message):
    """What is asked of an aggregate."""


class Event(Message):
    """What has happened to an aggregate."""


def check_chain(message: type[Message]) -> None:
    """Raise :class:`ConfigError` unless a message's upcasters lead from its first version to its newest."""
    wanted = set(range(1, message.schema_version))
    missing, beyond = sorted(wanted - set(message.upcasters)), sorted(set(message.upcasters) - wanted)
    if missing or beyond:
        what = "has no upcaster from" if missing else "has an upcaster that nothing needs, from"
        raise ConfigError(
            f"{message.__name__} is at schema version {message.schema_version}, and {what} version "
            f"{(missing or beyond)[0]}",
            next_step="give one for each version before the newest: upcasters = {1: function, ...}",
        )


def _said(error: ValidationError) -> str:
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    at = ".".join(str(each) for each in first["loc"])
    more = f", and {len(others)} more" if others else ""
    return f"its data does not fit: {at + ': ' if at else ''}{first['msg']}{more}"
