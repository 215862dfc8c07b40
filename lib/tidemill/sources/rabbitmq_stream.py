"""A stream's records between two offsets, exactly; and where the stream begins and ends.

A stream is written in chunks. A consumer that asks for an offset is served from the chunk that holds it, and one
that asks for an offset which retention has taken is served from the first chunk there is, without a word. So
records below the wanted offset are passed over, and an offset that is left out is looked into.

Offsets are left out in sound streams too: where a segment begins (each 500 MB by default) the broker keeps notes of
its own at one offset, and so it does where consumers of the stream protocol store their positions. Such a gap holds no
record, and :func:`check_gap` tells it from what retention took.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tidemill.errors import ConfigError, SourceError
from tidemill.sources.rabbitmq_link import Delivered, Lost, Patience, channel_of, with_patience
from tidemill.sources.rabbitmq_options import Binding, RabbitOptions
from tidemill.sources.rabbitmq_values import moment_of, text_of

SCHEMA = (
    "offset BIGINT, exchange STRING, routing_key STRING, message_id STRING, headers MAP<STRING, STRING>, "
    "timestamp TIMESTAMP, body BINARY"
)
"""A row is one message. ``timestamp`` is the publisher's, in whole seconds; null where it set none, or one that
no calendar has."""

Row = tuple[int, str, str, str | None, dict[str, str | None], datetime | None, bytes]

_OFFSET = "x-stream-offset"
_CREDIT = 2_000
"""Records on their way to a reader; the broker rounds it up to whole chunks."""

_WHOLE_CHUNK = 65_535
"""No chunk holds more records: a consumer with this credit gets its first chunk whole."""

_EMPTY_SECONDS = 1.0
"""How long a broker that counts no record is given to send one. It delivers the last chunk in milliseconds."""


def check_gap(where: str, wanted: int, found: int, first: int | None) -> None:
    """Passes where no record was at the offsets from ``wanted`` to ``found``; raises :class:`SourceError` otherwise.

    ``first`` is the stream's first offset, asked for after the gap was seen. Retention takes records from the front
    alone: while one before ``wanted`` is there, what lies behind it was not taken, and there never was a record.

    >>> check_gap("queue 'q'", 10, 11, first=0)
    """
    if first is not None and first < wanted:
        return
    raise SourceError(
        f"offsets {wanted} to {found - 1} of {where} are gone: the stream begins at {found if first is None else first}"
        " now",
        next_step="retention (x-max-length-bytes, x-max-age) took them, or the queue was made anew. To go on without "
        "them, start with a new checkpoint and start=first; to keep them from now on, give the queue longer retention",
        first_lost=wanted,
        first_there=found,
    )


def read_range(options: RabbitOptions, start: int, end: int) -> Iterator[Row]:
    """The records from ``start`` up to, without, ``end``: each once, in order, also where the line breaks between.

    Raises :class:`SourceError` where an offset of them is gone, the queue was deleted, or the broker stays away
    longer than the options allow.
    """
    patience = Patience(options)
    wanted = start
    done = start >= end
    while not done:
        try:
            for row in _attached(options, wanted, end):
                yield row
                wanted = row[0] + 1
                patience.progress()
            done = True
        except Lost as lost:
            patience.again(lost)


def end_of(options: RabbitOptions) -> int | None:
    """The offset after the last record: of all that was confirmed before the call, none is left out.

    None where the stream is empty. It is read from the stream itself: the count that the broker gives for a queue is
    refreshed every few seconds, and does not say what retention has taken.
    """
    return with_patience(options, lambda: _edge(options, "last"))


def first_of(options: RabbitOptions) -> int | None:
    """The offset of the first record that is still there; None where the stream is empty."""
    return with_patience(options, lambda: _edge(options, "first"))


def declare(options: RabbitOptions) -> None:
    """With a binding: makes the stream where it is missing, and binds it to the exchange. Else nothing.

    Raises :class:`ConfigError` where the exchange is of another type, or missing and not to be made.
    """
    binding = options.binding
    if binding is None:
        return

    def declared() -> None:
        _see_to_exchange(options, binding)
        try:
            with channel_of(options) as channel:
                channel.queue_declare(options.queue, passive=True)
        except SourceError as error:
            if not is_missing(error):
                raise
            with channel_of(options) as channel:
                channel.queue_declare(options.queue, durable=True, arguments={"x-queue-type": "stream"})
        with channel_of(options) as channel:
            for key in binding.routing_keys:
                channel.queue_bind(options.queue, binding.exchange, routing_key=key)

    with_patience(options, declared)


def _see_to_exchange(options: RabbitOptions, binding: Binding) -> None:
    if not binding.declare:
        with channel_of(options) as channel:
            channel.exchange_declare(binding.exchange, passive=True)
    try:
        # Of one that is there it asks whether it is of this type. What else it is, its publishers chose; and who may
        # bind a queue may not be one who may declare an exchange.
        with channel_of(options) as channel:
            channel.exchange_declare(binding.exchange, exchange_type=binding.kind, durable=True)
    except ConfigError as error:
        refusal = str(error.params.get("said", ""))
        other = "inequivalent arg" in refusal and "'type'" not in refusal
        if not other and (binding.declare or "ACCESS_REFUSED" not in refusal):
            raise


def is_missing(error: SourceError) -> bool:
    """Whether the broker said that there is no such queue."""
    return bool(error.params.get("missing"))


def _attached(options: RabbitOptions, start: int, end: int) -> Iterator[Row]:
    with channel_of(options) as channel:
        delivered = Delivered(channel, options, start, _CREDIT)
        wanted = start
        unacknowledged = 0
        while wanted < end:
            message = delivered.next(options.read_timeout_seconds)
            if message is None:
                raise Lost(f"no record at offset {wanted} within {options.read_timeout_seconds} s")
            method, properties, body = message
            unacknowledged += 1
            if unacknowledged >= _CREDIT // 2:
                channel.basic_ack(method.delivery_tag, multiple=True)
                unacknowledged = 0
            found = _offset_of(properties)
            if found < wanted:
                continue
            if found > wanted:
                check_gap(options.where, wanted, found, first_of(options))
            if found >= end:
                return
            yield _row(method, properties, body)
            wanted = found + 1


def _edge(options: RabbitOptions, which: str) -> int | None:
    with channel_of(options) as channel:
        counted = channel.queue_declare(options.queue, passive=True).method.message_count
        delivered = Delivered(channel, options, which, _WHOLE_CHUNK if which == "last" else 1)
        patience = (
            options.read_timeout_seconds if counted else min(_EMPTY_SECONDS, options.read_timeout_seconds)
        )
        begun = time.monotonic()
        message = delivered.next(patience)
        if message is None:
            if counted:
                raise Lost(
                    f"no record within {time.monotonic() - begun:.0f} s, of {counted} that the broker counts"
                )
            return None
        if which == "first":
            return _offset_of(message[1])
        # The channel sends a chunk whole before it answers anything else: what has come by its answer is the end.
        rest = delivered.all_sent_before_now()
        return _offset_of((rest[-1] if rest else message)[1]) + 1


def _offset_of(properties: Any) -> int:
    return int(properties.headers[_OFFSET])


def _row(method: Any, properties: Any, body: bytes) -> Row:
    headers = {
        str(text_of(name)): text_of(value) for name, value in properties.headers.items() if name != _OFFSET
    }
    return (
        _offset_of(properties),
        str(text_of(method.exchange)),
        str(text_of(method.routing_key)),
        text_of(properties.message_id),
        headers,
        moment_of(properties.timestamp),
        body,
    )
