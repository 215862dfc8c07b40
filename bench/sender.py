"""Sends events to a topic by a schedule, whatever becomes of them: ``python -m bench.sender JSON``.

Event ``i`` is due at a time that the schedule alone decides, and carries that time: one that is sent late, because the broker
or the machine was busy, has waited since it was due (an open loop, so that no wait is left out).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from confluent_kafka import Producer

_TICK = 0.01
_AGENT = "Mozilla/5.0 (X11; Linux x86_64)"

Step = tuple[int, float]
"""Events a second, and for how many seconds."""


def due_times(steps: Sequence[Step]) -> Iterator[float]:
    """When each event is due, in seconds from the start.

    >>> [round(each, 2) for each in due_times([(2, 1.0), (4, 0.5)])]
    [0.0, 0.5, 1.0, 1.25]
    """
    begin = 0.0
    for rate, seconds in steps:
        for number in range(int(rate * seconds)):
            yield begin + number / rate
        begin += seconds


def total(steps: Sequence[Step]) -> int:
    """How many events a schedule has."""
    return sum(int(rate * seconds) for rate, seconds in steps)


def event(number: int, due: float) -> str:
    """An event as JSON; every eighth is one that the transform leaves out."""
    at = datetime.fromtimestamp(due, UTC).isoformat(timespec="milliseconds")
    return (
        f'{{"id":"{number}","at":"{at}","user_id":{number % 500},"page":"/item/{number % 5000}","country":"DE",'
        f'"amount_cents":{number % 50000 + 1},"quantity":{number % 8 + 1},"agent":"{_AGENT}","day":"{at[:10]}"}}'
    )


def kept(number: int) -> bool:
    """Whether the transform keeps the event."""
    return number % 8 != 0


def main(text: str) -> None:
    """Send what the schedule says, and end when the broker has all of it."""
    given = json.loads(text)
    producer = Producer({"bootstrap.servers": given["servers"], "linger.ms": 5, "acks": "all"})
    topic, partitions, start = given["topic"], given["partitions"], float(given["start"])
    for number, after in enumerate(due_times([(rate, seconds) for rate, seconds in given["steps"]])):
        due = start + after
        ahead = due - time.time()
        if ahead > 0:
            producer.poll(0)
            time.sleep(max(ahead, _TICK))
        _send(producer, topic, event(number, due).encode(), number % partitions)
    producer.flush(60)


def _send(producer: Producer, topic: str, value: bytes, partition: int) -> None:
    while True:
        try:
            producer.produce(topic, value, partition=partition)
        except BufferError:
            producer.poll(0.1)
        else:
            return


if __name__ == "__main__":
    main(sys.argv[1])
