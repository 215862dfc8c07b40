"""A stream of RabbitMQ as a pipeline's source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from tidemill.model.base import Frozen
from tidemill.model.records import RecordSource

_FORM = "amqp://USER:PASSWORD@HOST:PORT/VHOST"


@dataclass(frozen=True, slots=True)
class Address:
    """What an address says. The password is in no text that is made of it."""

    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """The address; raises :class:`ValueError`, whose text holds nothing of it but the scheme.

        >>> Address.of("amqp://tide:hunter2@broker/%2Fsales")
        Address(host='broker', port=5672, vhost='/sales', user='tide')
        """
        try:
            parts = urlsplit(url)
            port = parts.port or 5672
        except ValueError:
            raise ValueError(f"no address of a broker: write {_FORM}") from None
        if parts.scheme == "amqps":
            raise ValueError("amqps (TLS) is not supported yet: write amqp, on a network that may be trusted")
        if parts.scheme != "amqp" or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(
                f"no address of a broker: write {_FORM}; what stands for itself in a part, as %2F"
            )
        user, password = (
            None if each is None else unquote(each) for each in (parts.username, parts.password)
        )
        return cls(parts.hostname, port, unquote(parts.path[1:]) or "/", user or "guest", password or "guest")


class Exchange(Frozen):
    """The exchange that feeds the queue; ``topic`` and ``direct`` by ``routing_keys``.

    It must be there when a new stream begins, unless ``declare`` says to make it: one that is misspelt feeds nothing.
    """

    name: str = Field(min_length=1)
    type: Literal["fanout", "topic", "direct"] = "fanout"
    routing_keys: tuple[str, ...] = ()
    declare: bool = False

    @model_validator(mode="before")
    @classmethod
    def _a_name_is_enough(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keys_choose(self) -> Exchange:
        if bool(self.routing_keys) == (self.type == "fanout"):
            msg = (
                "a fanout exchange has no routing keys: every record comes"
                if self.routing_keys
                else f"an exchange of type {self.type} needs routing_keys: which records the queue gets"
            )
            raise ValueError(msg)
        if any("," in key or not key.strip() for key in self.routing_keys):
            msg = "a routing key is not empty and has no comma"
            raise ValueError(msg)
        return self


Column = Literal["offset", "exchange", "routing_key", "message_id", "timestamp", "headers"]
"""A column that RabbitMQ has beside a record's body; ``timestamp`` is the publisher's."""


class RabbitSource(RecordSource):
    """A queue of type stream, which keeps its records after they are read.

    ``url``: ``amqp://USER:PASSWORD@HOST:PORT/VHOST``; never shown. ``exchange``: a new stream binds the queue to it, and
    makes the queue where it is missing. ``starting``: where a new stream begins, at the ``first`` record that is still
    there, at the ``next`` that comes, or at an offset. ``max_records_per_batch`` bounds a live batch,
    ``records_per_task`` what one task reads. The rest says how long an outage is waited out.

    >>> RabbitSource(url="amqp://localhost", queue="orders", format="raw").address.host
    'localhost'
    """

    kind: ClassVar[str] = "rabbitmq"

    url: SecretStr
    queue: str = Field(min_length=1, max_length=255)
    exchange: Exchange | None = None
    format: Literal["json", "string", "raw"] = "json"
    starting: Literal["first", "next"] | Annotated[int, Field(ge=0)] = "first"
    columns: tuple[Column, ...] = Field(default=(), alias="with")
    max_records_per_batch: int | None = Field(default=None, ge=1)
    records_per_task: int = Field(default=100_000, ge=1)
    read_timeout_seconds: int = Field(default=30, ge=1)
    reconnect_attempts: int = Field(default=30, ge=0)
    reconnect_seconds: int = Field(default=120, ge=0)

    @field_validator("url")
    @classmethod
    def _url_is_an_address(cls, value: SecretStr) -> SecretStr:
        Address.of(value.get_secret_value())
        return value

    @property
    def address(self) -> Address:
        """Where the broker is, and who logs in."""
        return Address.of(self.url.get_secret_value())

    @property
    def mark(self) -> str:
        """What tells the source from others: broker and queue."""
        at = self.address
        return f"rabbitmq_stream({at.host} {at.port} {at.vhost} {self.queue})"

    @property
    def name(self) -> str:
        """The queue, as a person reads it."""
        return f"queue {self.queue}"
