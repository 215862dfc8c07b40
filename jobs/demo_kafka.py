"""The demo through a broker: real flights sent to a topic of Kafka, streamed from there, repaired beside the stream.

    make demo-kafka            the first three days of January 2013
    make demo-kafka DAYS=31    the month

It starts a broker of its own on loopback and stops it at the end; the topic and what it fed (`data/kafka`) begin anew
each time.
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
from tests.services.kafka import Kafka, broker
from tidemill import Engine
from tidemill.errors import TidemillError
from tidemill.execution.session import build_session
from tidemill.planning.selection import Request

TOPIC = "flights"
AIRPORTS = ("EWR", "JFK", "LGA")
"""A partition each."""

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
    console.print("The broker is stopped; the tables are in data/kafka")
    return 0 if holds else 1


def _demo(story: Story, days: int) -> bool:
    spark = build_session("tidemill", project=_ROOT)
    shutil.rmtree(_ROOT / "data/kafka", ignore_errors=True)
    with ExitStack() as stack:
        with story.step("start a Kafka broker on loopback, and make the topic") as step:
            kafka = stack.enter_context(broker(spark))
            kafka.create(TOPIC, partitions=len(AIRPORTS))
            step.say(f"at {kafka.servers}; topic {TOPIC}, a partition for each of {', '.join(AIRPORTS)}")
        # The processes that this one starts read them, too.
        os.environ.update(KAFKA_SERVERS=kafka.servers, TIDEMILL_ENV="kafka")
        engine = Engine(_ROOT, spark=spark, say=step.show)
        return _tell(engine, kafka, story, days)


def _tell(engine: Engine, kafka: Kafka, story: Story, days: int) -> bool:
    hours = arrivals(_ROOT / "data/arriving", days)
    events = [event for hour in hours for event in hour]
    last_day = len(hours) - HELD_BACK
    with story.step(
        "send all events but the last day's, in the order in which they arrived, and stream them"
    ) as step:
        sent = sum(_send(kafka, hour) for hour in hours[:last_day])
        step.say(f"{sent:,} flights sent")
        _run(engine, step)
    title = "stream the last day in another process; repair dirty days beside it"
    with story.step(title) as step, _live_process(engine):
        sent = sum(_send(kafka, hour) for hour in hours[last_day:])
        step.say(f"{sent:,} more sent meanwhile")
        _repair_one_day(engine, step)
        _wait(lambda: all(s.input_rows == len(events) for s in statuses(engine)), "data/live.log")
    with story.step(
        "repair what the last day made dirty, and fill in the windows that are still open"
    ) as step:
        _repair(engine, step)
        engine.backfill("delays", Request(include_open=True))
        for status in statuses(engine):
            states = ", ".join(f"{count} {state}" for state, count in status.states.items())
            step.say(f"{status.pipeline}: days: {states}; {status.unread}")
    with story.step("verify both tables against a fresh computation from the topic") as step:
        verified = [engine.verify(name) for name in PIPELINES]
        for each, name in zip(verified, PIPELINES, strict=True):
            step.say(f"{name}: {len(each.intervals)} clean days, {len(each.differing)} differ")
    with story.step("compare every row with what plain Python makes of the events") as step:
        same = [_same(engine, name, events, step) for name in PIPELINES]
    return all(same) and all(each.holds for each in verified)


def _send(kafka: Kafka, events: Sequence[Event]) -> int:
    for partition, airport in enumerate(AIRPORTS):
        mine = [event for event in events if event["origin"] == airport]
        keys = [event["flight_id"] for event in mine]
        kafka.produce(TOPIC, map(json.dumps, mine), partition=partition, keys=keys)
    return len(events)


def _same(engine: Engine, name: str, events: Sequence[Event], step: Step) -> bool:
    columns, wanted = WANTED[name]
    rows, differ = differing(engine.project.pipeline(name).table.path, columns, wanted(events))
    step.say(f"{name}: {rows:,} rows, {differ} differ")
    return differ == 0


if __name__ == "__main__":
    sys.exit(main())
