"""Commands and events as they travel: flat, in the shape of CloudEvents 1.0, with data as JSON.

Attributes are CloudEvents' own (``id``, ``source``, ``type``, ``subject``, ``time``) and, as extensions in the lower case
that it asks for, ``schemaversion``, ``causationid``, ``correlationid``, and those of an event store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Self

from tidemill.errors import TransformError
from tidemill.intervals import utc


@dataclass(frozen=True, slots=True)
class _Envelope:
    DROPPED: ClassVar[frozenset[str]] = frozenset({"specversion", "datacontenttype"})

    def as_json(self) -> dict[str, Any]:
        """Flat plain values; what is not there is left out. ``time`` as RFC 3339 has it, ``data`` as a JSON value."""
        found: dict[str, Any] = {"specversion": "1.0", "datacontenttype": "application/json"}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "data":
                value = json.loads(value)
            elif isinstance(value, datetime):
                value = utc(value).isoformat().replace("+00:00", "Z")
            if value is not None:
                found[field.name] = value
        return found

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """An envelope from :meth:`as_json`'s values. Raises :class:`TransformError` where they are none."""
        try:
            given = {key: value for key, value in values.items() if key not in cls.DROPPED}
            given["data"] = json.dumps(given["data"], separators=(",", ":"))
            given["time"] = datetime.fromisoformat(given["time"])
            return cls(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise TransformError(f"this is no {cls.__name__}: {error}: {str(values)[:200]}") from None


@dataclass(frozen=True, slots=True)
class CommandEnvelope(_Envelope):
    """A command on its way. ``data``: JSON text. ``expectedversion``: it is for the aggregate at this version alone.

    >>> from datetime import UTC
    >>> asked = CommandEnvelope("c1", "account.Open", "17", datetime(2024, 5, 1, tzinfo=UTC), '{"owner":"ann"}')
    >>> asked.as_json()["data"], asked.as_json()["time"]
    ({'owner': 'ann'}, '2024-05-01T00:00:00Z')
    >>> CommandEnvelope.from_json(asked.as_json()) == asked
    True
    """

    id: str | None
    type: str | None
    subject: str | None
    time: datetime
    data: str
    source: str | None = None
    schemaversion: int | None = None
    expectedversion: int | None = None
    causationid: str | None = None
    correlationid: str | None = None

    def __str__(self) -> str:
        return f"command {self.id} ({self.type} of {self.subject})"


@dataclass(frozen=True, slots=True)
class EventEnvelope(_Envelope):
    """An event of an event store.

    ``id`` is made of aggregate, subject and version, and so the same however often it is made. ``version`` counts the
    events of one aggregate, from 1, without a gap. ``time`` is the command's, or that of the aggregate's event before it
    where that is later: times of one aggregate never go back. ``position`` grows over the whole store, in the order of
    commits; it has gaps. ``causationid`` is the command's id.
    """

    id: str
    source: str
    type: str
    subject: str
    aggregate: str
    version: int
    time: datetime
    data: str
    schemaversion: int
    causationid: str | None = None
    correlationid: str | None = None
    position: int | None = None

    def __str__(self) -> str:
        return f"event {self.id} ({self.type}, schema version {self.schemaversion})"


COMMAND_COLUMNS = {
    "id": "STRING",
    "type": "STRING",
    "subject": "STRING",
    "time": "TIMESTAMP",
    "data": "STRING",
    "source": "STRING",
    "schemaversion": "INT",
    "expectedversion": "BIGINT",
    "causationid": "STRING",
    "correlationid": "STRING",
}
"""The columns of a frame of commands, with their types in Spark's DDL; those after ``data`` may be left out."""
REQUIRED = ("id", "type", "subject", "time", "data")
EVENT_COLUMNS = {
    "id": "STRING",
    "source": "STRING",
    "type": "STRING",
    "subject": "STRING",
    "aggregate": "STRING",
    "version": "BIGINT",
    "time": "TIMESTAMP",
    "data": "STRING",
    "schemaversion": "INT",
    "causationid": "STRING",
    "correlationid": "STRING",
}
"""The columns of an event store, and ``position``, which is given as a batch is written."""
REFUSAL_COLUMNS = {"kind": "STRING", "reason": "STRING"}
"""What a row of the table of rejections has besides: why nothing came of a command."""
