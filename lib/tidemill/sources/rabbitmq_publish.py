"""Publishes records to RabbitMQ, each confirmed by the broker: for demos and tests, and for small producers.

publish(options, [Message(b"one"), Message(b"two")], exchange="orders")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.errors import TidemillError
from tidemill.sources.rabbitmq_link import Lost, load_pika, said
from tidemill.sources.rabbitmq_options import RabbitOptions

_WINDOW = 1_000
"""Records on their way that the broker has not confirmed yet."""


class PublishError(TidemillError):
    """Records were not all taken; ``params`` say how many were ``confirmed``, all of them at the front."""

    code = "PUBLISH"


@dataclass(frozen=True)
class Message:
    """One record: body, and what else a subscriber sees of it. ``timestamp`` in epoch seconds."""

    body: bytes
    routing_key: str | None = None
    message_id: str | None = None
    headers: Mapping[str, Any] | None = None
    timestamp: int | None = None


def publish(
    options: RabbitOptions, messages: Iterable[Message], *, exchange: str = "", routing_key: str | None = None
) -> int:
    """Publishes the messages in their order, and gives their number once the broker has confirmed each.

    Without an exchange they go to the queue of the options; a message's own routing key comes before ``routing_key``.
    Raises :class:`PublishError` where one is refused, returned as not routable, or the line breaks. It tries nothing
    again, as that could bring records twice: whoever does gives each a ``message_id``.
    """
    key = routing_key if routing_key is not None else ("" if exchange else options.queue)
    sending = _Sending(options, iter(messages), exchange, key)
    sending.run()
    return sending.confirmed


class _Sending:
    """One connection that lives from the first message to the last confirm."""

    def __init__(
        self, options: RabbitOptions, messages: Iterator[Message], exchange: str, routing_key: str
    ) -> None:
        self._options = options
        self._messages = messages
        self._exchange = exchange
        self._routing_key = routing_key
        self._channel: Any = None
        self._sent = 0
        self._open: set[int] = set()  # sent and not confirmed
        self._exhausted = False
        self._failure: Exception | None = None

    @property
    def confirmed(self) -> int:
        """How many, from the front."""
        return min(self._open) - 1 if self._open else self._sent

    def run(self) -> None:
        pika = self._pika = load_pika()
        parameters = pika.ConnectionParameters(
            host=self._options.host,
            port=self._options.port,
            virtual_host=self._options.vhost,
            credentials=pika.PlainCredentials(self._options.user, self._options.password),
        )
        connection = pika.SelectConnection(
            parameters,
            on_open_callback=lambda opened: opened.channel(on_open_callback=self._opened),
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
        )
        self._connection = connection
        try:
            connection.ioloop.start()
        finally:
            connection.ioloop.close()
        if self._failure is not None:
            raise self._failure

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._answered, callback=lambda _frame: self._fill())

    def _fill(self) -> None:
        while not self._exhausted and len(self._open) < _WINDOW and self._failure is None:
            message = next(self._messages, None)
            if message is None:
                self._exhausted = True
            else:
                self._send(message)
        if self._exhausted and not self._open and self._connection.is_open:
            self._connection.close()

    def _send(self, message: Message) -> None:
        self._sent += 1
        self._open.add(self._sent)
        self._channel.basic_publish(
            self._exchange,
            self._routing_key if message.routing_key is None else message.routing_key,
            message.body,
            self._pika.BasicProperties(
                message_id=message.message_id,
                headers=dict(message.headers or {}),
                timestamp=message.timestamp,
                delivery_mode=2,
            ),
            mandatory=True,
        )

    def _answered(self, frame: Any) -> None:
        tag, refused = frame.method.delivery_tag, frame.method.NAME == "Basic.Nack"
        if refused:
            self._fail(f"the broker refused record {tag}", "see the broker's log: disk or memory may be full")
            return
        self._open -= {each for each in self._open if each <= tag} if frame.method.multiple else {tag}
        self._fill()

    def _returned(self, _channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        self._fail(
            f"exchange '{self._exchange}' has no queue for routing key '{method.routing_key}'",
            "bind a queue first: a subscriber with the option 'exchange' does",
        )

    def _channel_closed(self, _channel: Any, reason: Exception) -> None:
        if not self._exhausted or self._open:
            self._set(said(self._options, reason))
        if self._connection.is_open:
            self._connection.close()

    def _ended(self, connection: Any, reason: Exception) -> None:
        if self._open or not self._exhausted:
            self._set(said(self._options, reason))
        connection.ioloop.stop()

    def _fail(self, message: str, next_step: str) -> None:
        self._set(PublishError(message, next_step=next_step, confirmed=self.confirmed))
        if self._connection.is_open:
            self._connection.close()

    def _set(self, failure: Exception) -> None:
        if self._failure is not None:
            return
        if isinstance(failure, Lost):
            failure = PublishError(
                f"the line to {self._options.host}:{self._options.port} broke: {failure}",
                next_step="publish again from the first record that was not confirmed",
                confirmed=self.confirmed,
            )
        self._failure = failure


__all__ = ["Message", "PublishError", "publish"]
