"""The demo through a broker: real flights sent to a topic of Kafka, streamed from there, repaired beside the stream.

    make demo-kafka            the first three days of January 2013
    make demo-kafka DAYS=31    the month

It starts a broker of its own on loopback and stops it at the end; the topic and what it fed (`data/kafka`) begin anew
each time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from jobs.demo_brokers import ROOT, Through, main
from jobs.flights_check import Event
from jobs.story import Story
from tests.services.kafka import Kafka, broker
from tidemill.execution.session import build_session

TOPIC = "flights"
AIRPORTS = ("EWR", "JFK", "LGA")
"""A partition each."""


@contextmanager
def _started(story: Story) -> Iterator[Through]:
    with broker(build_session("tidemill", project=ROOT)) as kafka:
        with story.step("start a Kafka broker on loopback, and make the topic") as step:
            kafka.create(TOPIC, partitions=len(AIRPORTS))
            step.say(f"at {kafka.servers}; topic {TOPIC}, a partition for each of {', '.join(AIRPORTS)}")
        yield Through({"KAFKA_SERVERS": kafka.servers}, partial(_send, kafka))


def _send(kafka: Kafka, events: Sequence[Event]) -> int:
    for partition, airport in enumerate(AIRPORTS):
        mine = [event for event in events if event["origin"] == airport]
        keys = [event["flight_id"] for event in mine]
        kafka.produce(TOPIC, map(json.dumps, mine), partition=partition, keys=keys)
    return len(events)


if __name__ == "__main__":
    sys.exit(main(__doc__, "kafka", _started))
