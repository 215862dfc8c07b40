"""The demo through a broker: real flights sent to an exchange of RabbitMQ, streamed from a queue for each pipeline.

    make demo-rabbitmq            the first three days of January 2013
    make demo-rabbitmq DAYS=31    the month

It starts a broker of its own on loopback and stops it at the end; the queues and what they fed (`data/rabbitmq`) begin
anew each time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from jobs.demo import (
    HELD_BACK,
    PIPELINES,
    Memory,
    Step,
    Story,
    _live_process,
    _repair,
    _repair_one_day,
    _run,
    _wait,
    statuses,
)
from jobs.flights_check import WANTED, Event, arrivals, differing
from jobs.flights_events import LAST_DAYS
from tests.services.rabbitmq import Broker, running_broker
from tidemill import Engine
from tidemill.errors import TidemillError
from tidemill.planning.selection import Request
from tidemill.sources.rabbitmq_options import rabbit_options
from tidemill.sources.rabbitmq_publish import Message, publish

EXCHANGE = "flights"
_ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when both tables hold what the events say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=3, help="days of 2013, from 1 January (default 3)")
    days = parser.parse_args(arguments).days
    if not 1 <= days <= LAST_DAYS:
        parser.error(f"--days is from 1 to {LAST_DAYS}")
    # The broker is to end with this process, whoever ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    story, memory = Story(console), Memory()
    try:
        with memory:
            holds = _demo(story, days)
    except TidemillError as error:
        console.print(f"[red]error:[/] {error}")
        return error.exit_code
    console.print()
    console.print(story.table(memory.peak_mib))
    console.print("The broker is stopped; the tables are in data/rabbitmq")
    return 0 if holds else 1


def _demo(story: Story, days: int) -> bool:
    shutil.rmtree(_ROOT / "data/rabbitmq", ignore_errors=True)
    with ExitStack() as stack:
        with story.step(
            "start a RabbitMQ on loopback, and declare a fanout exchange, as a publisher does"
        ) as step:
            broker = stack.enter_context(running_broker())
            with broker.channel() as channel:
                channel.exchange_declare(EXCHANGE, exchange_type="fanout", durable=True)
            step.say(f"at 127.0.0.1:{broker.port}; exchange {EXCHANGE}, and no queue yet")
        # The processes that this one starts read them, too.
        os.environ.update(RABBITMQ_URL=broker.url, TIDEMILL_ENV="rabbitmq")
        engine = Engine(_ROOT, say=step.show)
        return _tell(engine, broker, story, arrivals(_ROOT / "data/arriving", days))


def _tell(engine: Engine, broker: Broker, story: Story, hours: Sequence[Sequence[Event]]) -> bool:
    last_day = len(hours) - HELD_BACK
    before, after = ([e for hour in some for e in hour] for some in (hours[:last_day], hours[last_day:]))
    with story.step(
        "run both pipelines: each makes a stream of its own and binds it to the exchange"
    ) as step:
        _run(engine, step)
    with story.step("send all but the last day, in the order in which flights left, and stream them") as step:
        step.say(f"{_send(broker, before):,} flights sent, each confirmed")
        _run(engine, step)
    title = "stream the last day in another process; repair dirty days beside it"
    with story.step(title) as step, _live_process(engine):
        step.say(f"{_send(broker, after):,} more sent meanwhile")
        _repair_one_day(engine, step)
        sent = len(before) + len(after)
        _wait(lambda: all(each.input_rows == sent for each in statuses(engine)), "data/live.log")
    with story.step(
        "repair what the last day made dirty, and fill in the windows that are still open"
    ) as step:
        _repair(engine, step)
        engine.backfill("delays", Request(include_open=True))
        for status in statuses(engine):
            states = ", ".join(f"{count} {state}" for state, count in status.states.items())
            step.say(f"{status.pipeline}: days: {states}; {status.unread}")
    with story.step("verify both tables against a fresh computation from the streams") as step:
        verified = [engine.verify(name) for name in PIPELINES]
        for each, name in zip(verified, PIPELINES, strict=True):
            step.say(f"{name}: {len(each.intervals)} clean days, {len(each.differing)} differ")
    with story.step("compare every row with what plain Python makes of the events") as step:
        same = [_same(engine, name, [*before, *after], step) for name in PIPELINES]
    return all(same) and all(each.holds for each in verified)


def _send(broker: Broker, events: Sequence[Event]) -> int:
    messages = (Message(json.dumps(each).encode(), message_id=each["flight_id"]) for each in events)
    return publish(rabbit_options({**broker.options, "queue": "of-subscribers"}), messages, exchange=EXCHANGE)


def _same(engine: Engine, name: str, events: Sequence[Event], step: Step) -> bool:
    columns, wanted = WANTED[name]
    rows, differ = differing(engine.project.pipeline(name).table.path, columns, wanted(events))
    step.say(f"{name}: {rows:,} rows, {differ} differ")
    return differ == 0


if __name__ == "__main__":
    sys.exit(main())
