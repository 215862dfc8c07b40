"""The demo through a broker: real flights sent to an exchange of RabbitMQ, streamed from a queue for each pipeline.

    make demo-rabbitmq            the first three days of January 2013
    make demo-rabbitmq DAYS=31    the month

It starts a broker of its own on loopback and stops it at the end; the queues and what they fed (`data/rabbitmq`) begin
anew each time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from jobs.demo_brokers import Through, main
from jobs.flights_check import Event
from jobs.story import Story
from tests.services.rabbitmq import Broker, running_broker
from tidemill.sources.rabbitmq_options import rabbit_options
from tidemill.sources.rabbitmq_publish import Message, publish

EXCHANGE = "flights"


@contextmanager
def _started(story: Story) -> Iterator[Through]:
    title = "start a RabbitMQ on loopback, and declare a fanout exchange, as a publisher does"
    with running_broker() as broker:
        with story.step(title) as step, broker.channel() as channel:
            channel.exchange_declare(EXCHANGE, exchange_type="fanout", durable=True)
            step.say(f"at 127.0.0.1:{broker.port}; exchange {EXCHANGE}, and no queue yet")
        yield Through(
            {"RABBITMQ_URL": broker.url},
            partial(_send, broker),
            first="run both pipelines: each makes a stream of its own and binds it to the exchange",
        )


def _send(broker: Broker, events: Sequence[Event]) -> int:
    messages = (Message(json.dumps(each).encode(), message_id=each["flight_id"]) for each in events)
    return publish(rabbit_options({**broker.options, "queue": "of-subscribers"}), messages, exchange=EXCHANGE)


if __name__ == "__main__":
    sys.exit(main(__doc__, "rabbitmq", _started))
