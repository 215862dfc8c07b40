"""The line to a broker: to log in, to read what it says when it refuses, and to try again within bounds."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from tidemill.errors import ConfigError, EnvironmentProblem, SourceError, TidemillError
from tidemill.sources.rabbitmq_options import RabbitOptions
from tidemill.sources.rabbitmq_values import whole_headers

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0

T = TypeVar("T")


class Lost(Exception):
    """The line broke, or the broker is not ready: to be tried again. It never leaves the reader."""


class Patience:
    """Counts the attempts and the seconds of one outage; what goes well in between begins a new one."""

    def __init__(self, options: RabbitOptions) -> None:
        self._options = options
        self.progress()

    def progress(self) -> None:
        """Something was read: the outage is over."""
        self._attempts = 0
        self._since: float | None = None

    def again(self, lost: Lost) -> None:
        """Waits before the next attempt; raises :class:`SourceError` where the bounds are reached."""
        now = time.monotonic()
        since = self._since = now if self._since is None else self._since
        waited = now - since
        if self._attempts >= self._options.reconnect_attempts or waited >= self._options.reconnect_seconds:
            raise SourceError(
                f"{self._options.where} could not be read: {lost} ({self._attempts} attempts to reconnect "
                f"in {waited:.0f} s)",
                next_step="see that the broker runs and can be reached from driver and executors, then start "
                "again: the query goes on where it stopped. 'reconnect_attempts' and 'reconnect_seconds' bound it",
                queue=self._options.queue,
            ) from lost
        pause = min(_FIRST_PAUSE * 2**self._attempts, _LONGEST_PAUSE)
        self._attempts += 1
        time.sleep(min(pause, max(0.0, self._options.reconnect_seconds - waited)))


def with_patience(options: RabbitOptions, action: Callable[[], T]) -> T:
    """What the action gives, tried again while the line is lost, within the options' bounds."""
    patience = Patience(options)
    while True:
        try:
            return action()
        except Lost as lost:
            patience.again(lost)


@contextmanager
def channel_of(options: RabbitOptions) -> Iterator[BlockingChannel]:
    """A channel of a connection of its own.

    Raises :class:`Lost` where another attempt may help, and an error of tidemill's where the broker's answer is
    final: no such queue, wrong credentials, not a stream.
    """
    pika = load_pika()
    connection = None
    try:
        connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                host=options.host,
                port=options.port,
                virtual_host=options.vhost,
                credentials=pika.PlainCredentials(options.user, options.password),
                socket_timeout=options.read_timeout_seconds,
                stack_timeout=options.read_timeout_seconds,
            )
        )
        with whole_headers(pika.data):
            yield connection.channel()
    except (pika.exceptions.AMQPError, OSError) as error:
        raise said(options, error) from error
    finally:
        if connection is not None and connection.is_open:
            with suppress(pika.exceptions.AMQPError, OSError):
                connection.close()


class Delivered:
    """The records of one consumer, from an offset on, as the broker sends them."""

    def __init__(
        self, channel: BlockingChannel, options: RabbitOptions, offset: str | int, credit: int
    ) -> None:
        self._channel = channel
        self._waiting: deque[tuple[Any, Any, bytes]] = deque()
        self._options = options
        self._cancelled = False
        channel.add_on_cancel_callback(self._cancel)
        channel.basic_qos(prefetch_count=credit)
        channel.basic_consume(options.queue, self._take, arguments={"x-stream-offset": offset})

    def next(self, seconds: float) -> tuple[Any, Any, bytes] | None:
        """The next one: method, properties, body; None where none came within the seconds."""
        until = time.monotonic() + seconds
        while not self._waiting and (left := until - time.monotonic()) > 0 and not self._cancelled:
            self._channel.connection.process_data_events(left)
        if self._waiting:
            return self._waiting.popleft()
        if self._cancelled:
            # It was deleted, or its node stops: the next attempt is told which.
            raise Lost("the broker cancelled the consumer")
        return None

    def all_sent_before_now(self) -> list[tuple[Any, Any, bytes]]:
        """Those not taken yet that the broker had sent before it answered this question."""
        self._channel.queue_declare(self._options.queue, passive=True)
        self._channel.connection.process_data_events(0)
        there = list(self._waiting)
        self._waiting.clear()
        return there

    def _take(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._waiting.append((method, properties, body))

    def _cancel(self, _method: Any) -> None:
        self._cancelled = True


def said(options: RabbitOptions, error: Exception) -> Exception:
    """What the broker said, as an error of tidemill's where it is final, else as :class:`Lost`."""
    code = getattr(error, "reply_code", None)
    text = str(getattr(error, "reply_text", "")) or str(error) or repr(error)
    at = f"{options.host}:{options.port}"
    # A line that breaks during the login is "probably" a refusal to pika; only the broker's word is one.
    if "ACCESS_REFUSED - Login" in str(error):
        return ConfigError(
            f"RabbitMQ at {at} refused the login of user '{options.user}'",
            next_step="check the options 'user' and 'password'; 'guest' may log in from the broker's machine alone",
        )
    if "NOT_ALLOWED" in str(error):
        return ConfigError(
            f"RabbitMQ at {at} does not let user '{options.user}' into vhost '{options.vhost}', or has no such vhost",
            next_step="check the option 'vhost' and the user's permissions",
        )
    if code == 404 and "no queue" in text:
        return SourceError(
            f"{options.where} is not there: it was never declared, or was deleted",
            next_step="check the option 'queue'. Where it was deleted its records are gone: declare it anew "
            "(x-queue-type: stream), and start with a new checkpoint",
            queue=options.queue,
            missing=True,
        )
    if "no exchange" in text:
        return ConfigError(
            f"{options.where}: the broker has {text.partition(' - ')[2] or text}",
            next_step="publishers declare their exchange; correct its name, or say declare_exchange: true (in a "
            "pipeline, exchange: {name: ..., declare: true}) to have it made",
            queue=options.queue,
        )
    if code in (403, 406):
        return _refused(options, text)
    # Another 404 is a queue whose node or leader is not up yet.
    return Lost(text if code is None else f"{code} {text}")


def _refused(options: RabbitOptions, text: str) -> TidemillError:
    if "x-stream-offset" in text or "x-queue-type" in text:
        return ConfigError(
            f"{options.where} is not of type stream: its records are gone once they are read",
            next_step="name a queue declared with x-queue-type: stream; bind it to the same exchange",
            queue=options.queue,
        )
    return ConfigError(
        f"{options.where}: the broker refused: {text}",
        next_step="compare the options with how queue and exchange were declared, and with the user's permissions",
        queue=options.queue,
        said=text,
    )


def load_pika() -> Any:
    """The client library, with its log quiet unless it was set; raises :class:`EnvironmentProblem` without it."""
    try:
        import pika
    except ImportError as missing:
        raise EnvironmentProblem(
            "RabbitMQ is spoken to with the package pika, which is not here",
            next_step="install tidemill[rabbitmq] for the driver and for the executors",
        ) from missing
    log = logging.getLogger("pika")
    if log.level == logging.NOTSET:
        log.setLevel(
            logging.CRITICAL
        )  # ten lines for each attempt; what went wrong is in the error that is raised
    return pika
