"""The options of ``rabbitmq_stream``, read once into one frozen value; a wrong one is an error before any reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.errors import ConfigError

_NAMES = (
    *("host", "port", "vhost", "user", "password", "queue"),
    *("exchange", "exchange_type", "routing_keys", "declare_exchange"),
    *("start", "start_offset", "end_offset", "max_records_per_batch", "records_per_partition"),
    *("read_timeout_seconds", "reconnect_attempts", "reconnect_seconds"),
)
_EXCHANGES = ("fanout", "topic", "direct")


@dataclass(frozen=True)
class Binding:
    """The exchange that feeds the queue, and the keys that do; ``declare``: it is made where it is missing."""

    exchange: str
    kind: str
    routing_keys: tuple[str, ...]
    declare: bool = False


@dataclass(frozen=True)
class RabbitOptions:
    """What reaches a queue, and how patiently. The password is in no text that is made of it."""

    queue: str
    host: str = "localhost"
    port: int = 5672
    vhost: str = "/"
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    binding: Binding | None = None
    start: str | int = "first"
    start_offset: int | None = None
    end_offset: int | None = None
    max_records_per_batch: int | None = None
    records_per_partition: int = 100_000
    read_timeout_seconds: int = 30
    reconnect_attempts: int = 30
    reconnect_seconds: int = 120

    @property
    def where(self) -> str:
        """The queue as messages name it."""
        return f"queue '{self.queue}' (vhost '{self.vhost}' of {self.host}:{self.port})"


def rabbit_options(given: Mapping[str, str]) -> RabbitOptions:
    """The options as Spark gives them, checked.

    Raises :class:`ConfigError` with the option's name: missing, unknown, or not a value it can have.

    >>> rabbit_options({"queue": "orders", "user": "tide", "password": "secret"})
    ... # doctest: +ELLIPSIS
    RabbitOptions(queue='orders', host='localhost', port=5672, vhost='/', user='tide', binding=None, ...)
    """
    options = {name.lower(): value for name, value in given.items()}
    for name in options:
        if name not in _NAMES:
            raise ConfigError(
                f"rabbitmq_stream has no option '{name}'", next_step=f"its options: {', '.join(_NAMES)}"
            )
    if not options.get("queue"):
        raise ConfigError("rabbitmq_stream needs the option 'queue'", next_step="name a queue of type stream")
    return RabbitOptions(
        queue=options["queue"],
        host=options.get("host", "localhost"),
        port=_number(options, "port", 1) or 5672,
        vhost=options.get("vhost", "/"),
        user=options.get("user", "guest"),
        password=options.get("password", "guest"),
        binding=_binding(options),
        start=_start(options),
        start_offset=_number(options, "start_offset", 0),
        end_offset=_number(options, "end_offset", 0),
        max_records_per_batch=_number(options, "max_records_per_batch", 1),
        records_per_partition=_number(options, "records_per_partition", 1) or 100_000,
        read_timeout_seconds=_number(options, "read_timeout_seconds", 1) or 30,
        reconnect_attempts=_or(_number(options, "reconnect_attempts", 0), 30),
        reconnect_seconds=_or(_number(options, "reconnect_seconds", 0), 120),
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _number(options: Mapping[str, str], name: str, least: int) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.strip().isdecimal() or int(text) < least:
        raise ConfigError(
            f"rabbitmq_stream: '{name}' is '{text}'", next_step=f"give a whole number from {least}"
        )
    return int(text)


def _start(options: Mapping[str, str]) -> str | int:
    text = options.get("start", "first")
    if text in ("first", "next"):
        return text
    if text.isdecimal():
        return int(text)
    raise ConfigError(
        f"rabbitmq_stream: 'start' is '{text}'", next_step="give first, next, or the offset to begin with"
    )


def _binding(options: Mapping[str, str]) -> Binding | None:
    exchange = options.get("exchange")
    keys = tuple(key.strip() for key in options.get("routing_keys", "").split(",") if key.strip())
    kind = options.get("exchange_type", "fanout")
    if exchange is None:
        if keys or "exchange_type" in options or "declare_exchange" in options:
            raise ConfigError(
                "rabbitmq_stream: 'exchange_type', 'routing_keys' and 'declare_exchange' are about the exchange that "
                "feeds the queue",
                next_step="name the exchange with the option 'exchange', or leave them out",
            )
        return None
    if kind not in _EXCHANGES:
        raise ConfigError(
            f"rabbitmq_stream: 'exchange_type' is '{kind}'", next_step=f"one of {', '.join(_EXCHANGES)}"
        )
    if kind != "fanout" and not keys:
        raise ConfigError(
            f"rabbitmq_stream: exchange '{exchange}' of type {kind} needs 'routing_keys'",
            next_step="give the keys with commas between them" + (", or #" if kind == "topic" else ""),
        )
    declare = options.get("declare_exchange", "false").lower()
    if declare not in ("true", "false"):
        raise ConfigError(
            f"rabbitmq_stream: 'declare_exchange' is '{declare}'", next_step="give true or false"
        )
    return Binding(exchange, kind, keys or ("",), declare == "true")
