"""What the demos through a broker have in common: their arguments and their story."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from jobs.flights_check import Event, arrivals
from jobs.flights_events import LAST_DAYS
from jobs.flights_story import (
    live_process,
    repair,
    repair_one_day,
    run,
    same_as_events,
    say_states,
    statuses,
    verified,
)
from jobs.story import Memory, Story, wait
from tidemill import Engine
from tidemill.errors import TidemillError
from tidemill.planning.selection import Request

HELD_BACK = 24
"""How many hours of events are sent only while the backfill is at work."""
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Through:
    """A broker that runs: what pipelines have to know of it, and how events are sent. ``send`` gives how many were.

    ``first``: what is to be done before anything is sent, told as a step of this title.
    """

    environment: dict[str, str]
    send: Callable[[Sequence[Event]], int]
    first: str | None = None


Started = Callable[[Story], AbstractContextManager[Through]]


def main(what: str | None, name: str, started: Started, arguments: Sequence[str] | None = None) -> int:
    """Run a demo whose tables are in ``data/<name>``; 0 when both hold what the events say.

    ``started`` starts the broker, and stops it; ``what`` is the demo's description.
    """
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=3, help="days of 2013, from 1 January (default 3)")
    days = parser.parse_args(arguments).days
    if not 1 <= days <= LAST_DAYS:
        parser.error(f"--days is from 1 to {LAST_DAYS}")
    # The broker is to end with this process, whoever ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    story, memory = Story(console), Memory()
    shutil.rmtree(ROOT / f"data/{name}", ignore_errors=True)
    try:
        with memory, started(story) as through:
            # The processes that this one starts read them, too.
            os.environ.update(through.environment, TIDEMILL_ENV=name)
            engine = Engine(ROOT, say=lambda line: console.print(f"  {line}", style="dim", markup=False))
            holds = _tell(engine, through, story, arrivals(ROOT / "data/arriving", days))
    except TidemillError as error:
        console.print(f"[red]error:[/] {error}")
        return error.exit_code
    console.print()
    console.print(story.table(memory.peak_mib))
    console.print(f"The broker is stopped; the tables are in data/{name}")
    return 0 if holds else 1


def _tell(engine: Engine, through: Through, story: Story, hours: Sequence[Sequence[Event]]) -> bool:
    last_day = len(hours) - HELD_BACK
    before, after = ([e for hour in some for e in hour] for some in (hours[:last_day], hours[last_day:]))
    if through.first is not None:
        with story.step(through.first) as step:
            run(engine, step)
    with story.step("send all but the last day, as flights left, and stream them") as step:
        step.say(f"{through.send(before):,} flights sent")
        run(engine, step)
    title = "stream the last day in another process; repair dirty days beside it"
    with story.step(title) as step, live_process(engine):
        step.say(f"{through.send(after):,} more sent meanwhile")
        repair_one_day(engine, step)
        sent = len(before) + len(after)
        wait(lambda: all(each.input_rows == sent for each in statuses(engine)), "data/live.log")
    title = "repair what the last day made dirty, and fill in the windows that are still open"
    with story.step(title) as step:
        repair(engine, step)
        engine.backfill("delays", Request(include_open=True))
        say_states(engine, step)
    holds = verified(engine, story, " from the broker")
    return same_as_events(engine, story, [*before, *after]) and holds
