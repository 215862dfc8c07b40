"""One publisher, one exchange, three subscribers: each with its own speed and its own place in the stream.

    .venv/bin/python -m jobs.fanout            flights of two days, through a RabbitMQ that it starts and stops

The pipelines are those of `examples/fanout`. `board` reads fast and `hourly` slowly; `hourly` is stopped for a while and
catches up; `miles` comes later and replays what was sent before it was thought of. At the end each table is compared with
what plain Python makes of the events.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path

from jobs.flights_check import Event, Rows, arrivals, differing, due, left, windows
from tests.services.rabbitmq import Broker, running_broker
from tidemill import Engine
from tidemill.display import words
from tidemill.errors import TidemillError
from tidemill.execution.supervise import Outcomes
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.sources.rabbitmq_options import rabbit_options
from tidemill.sources.rabbitmq_publish import Message, publish

EXCHANGE = "flights"
_ROOT = Path(__file__).resolve().parent.parent
_WAIT_SECONDS = 300
Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the story; 0 when every table holds what the events say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=2, help="days of 2013, from 1 January (default 2)")
    days = parser.parse_args(arguments).days
    # The broker is to end with this process, whoever ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    project = _ROOT / "examples/fanout"
    shutil.rmtree(project / "data", ignore_errors=True)
    events = [*chain.from_iterable(arrivals(_ROOT / "data/arriving", days))]
    try:
        with running_broker() as broker:
            os.environ["RABBITMQ_URL"] = broker.url
            return 0 if tell(Engine(project, say=print), broker, events, print) else 1
    except TidemillError as error:
        print(f"error: {error}")
        return error.exit_code


def tell(engine: Engine, broker: Broker, events: Sequence[Event], say: Say) -> bool:
    """The story, from an empty broker to tables that are compared; True when each is exact."""
    publisher = Publisher(broker, events)
    one, two, whole = len(events) // 3, 2 * len(events) // 3, len(events)
    with _live(engine, "board", "hourly") as until:
        # What is sent before there is a queue goes to none.
        until(lambda: _seen(engine, "board", "hourly") == [0, 0])
        publisher.send(one)
        until(lambda: _seen(engine, "board", "hourly") == [one, one])
    say(f"board and hourly have read {one:,} flights each; now hourly is stopped")
    with _live(engine, "board") as until:
        publisher.send(two)
        until(lambda: _seen(engine, "board") == [two])
    say(f"board has read {two:,}, hourly {_seen(engine, 'hourly')[0]:,}; now miles is added")
    _raise(engine.run("miles"))
    say(f"miles has replayed {_seen(engine, 'miles')[0]:,} from the board's queue; hourly is started again")
    with _live(engine, "board", "hourly") as until:
        publisher.send(whole)
        until(lambda: _seen(engine, "board", "hourly") == [whole, whole])
    _raise(engine.run("miles"))
    for each in engine.status():
        say(f"{each.pipeline}: {each.input_rows:,} flights in {each.last_batch} batches; {each.unread}")
    late = engine.coverage("hourly").in_state(State.DIRTY)
    say(
        f"late flights made {words.count(len(late), 'day')} of hourly dirty; a backfill reads them again from the queue"
    )
    engine.backfill("hourly", Request(states=frozenset({State.DIRTY})))
    engine.backfill("hourly", Request(include_open=True))
    exact = [_exact(engine, name, events, say) for name in _WANTED]
    return all(exact)


class Publisher:
    """Sends the events in the order in which they arrived; it knows its exchange, and no queue."""

    def __init__(self, broker: Broker, events: Sequence[Event]) -> None:
        self._options = rabbit_options({**broker.options, "queue": "of-subscribers"})
        self._events = events
        self._sent = 0
        with broker.channel() as channel:
            channel.exchange_declare(EXCHANGE, exchange_type="fanout", durable=True)

    def send(self, until: int) -> None:
        """Send on, up to the number of events given; returns when the broker has confirmed each."""
        messages = [_message(event) for event in self._events[self._sent : until]]
        self._sent += publish(self._options, messages, exchange=EXCHANGE)


def _message(event: Event) -> Message:
    return Message(json.dumps(event).encode(), message_id=event["flight_id"])


@contextmanager
def _live(engine: Engine, *names: str) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Runs pipelines by their own triggers, in a thread, and ends them between batches; gives what waits beside them."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.run, *names, stop=stop)

        def until(holds: Callable[[], bool]) -> None:
            end = time.monotonic() + _WAIT_SECONDS
            while not holds():
                if running.done():
                    _raise(running.result())
                if time.monotonic() > end:
                    raise TidemillError(
                        f"{', '.join(names)} came to a standstill", next_step="see: tidemill status"
                    )
                threading.Event().wait(0.2)

        try:
            yield until
        finally:
            stop.set()
    _raise(running.result())


def _raise(outcomes: Outcomes) -> None:
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error


def _seen(engine: Engine, *names: str) -> list[int]:
    """How many flights each pipeline has read; -1 before its first batch."""
    found = [engine.status(name)[0] for name in names]
    return [-1 if each.last_batch is None else each.input_rows for each in found]


def _board(events: Sequence[Event]) -> Rows:
    return {(e["flight_id"], due(e), e["dest"], e["dep_delay"]) for e in left(events)}


def _hourly(events: Sequence[Event]) -> Rows:
    found = windows(events, timedelta(hours=1))
    return {(*at, len(late), max(late)) for at, late in found.items()}


def _miles(events: Sequence[Event]) -> Rows:
    return {(e["flight_id"], e["carrier"], e["distance"]) for e in left(events)}


_WANTED: dict[str, tuple[Sequence[str], Callable[[Sequence[Event]], Rows]]] = {
    "board": (["flight_id", "scheduled_at", "dest", "dep_delay"], _board),
    "hourly": (["hour", "origin", "flights", "worst"], _hourly),
    "miles": (["flight_id", "carrier", "distance"], _miles),
}


def _exact(engine: Engine, name: str, events: Sequence[Event], say: Say) -> bool:
    columns, wanted = _WANTED[name]
    rows, differ = differing(engine.project.pipeline(name).table.path, columns, wanted(events))
    say(f"{name}: {rows:,} rows, {differ} differ from what the events say")
    return differ == 0


if __name__ == "__main__":
    sys.exit(main())
