"""The demo: real flights through live streams, late ones found, their days repaired beside the stream.

    make demo            the first week of January 2013
    make demo DAYS=31    the month; DAYS=365 the year

What a second start finds done it leaves alone, and says so.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jobs.flights_events import LAST_DAYS, write_events
from jobs.flights_story import (
    changes,
    live_process,
    repair,
    repair_one_day,
    run,
    say_states,
    statuses,
    verified,
)
from jobs.story import Memory, Step, Story, wait
from tidemill import Engine
from tidemill.errors import TidemillError
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request

HELD_BACK = 24
"""How many event files arrive only while the backfill is at work."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when both tables hold what they must."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=7, help="days of 2013, from 1 January (default 7)")
    days = parser.parse_args(arguments).days
    if not 1 <= days <= LAST_DAYS:
        parser.error(f"--days is from 1 to {LAST_DAYS}")
    console = Console()
    story = Story(console)
    memory = Memory()
    engine = Engine(
        Path(__file__).resolve().parent.parent,
        say=lambda line: console.print(f"  {line}", style="dim", markup=False),
    )
    try:
        with memory:
            holds = _demo(engine, story, days)
    except TidemillError as error:
        console.print(f"[red]error:[/] {error}")
        return error.exit_code
    console.print()
    console.print(story.table(memory.peak_mib))
    console.print("Look around: .venv/bin/tidemill status delays; the tables are in data/tables")
    return 0 if holds else 1


def _demo(engine: Engine, story: Story, days: int) -> bool:
    root = Path(engine.project.root)
    arriving, landed = root / "data/arriving", root / "data/flights"
    with story.step("write the events, in the order in which they arrived") as step:
        events = write_events(arriving, days=days)
        step.say(f"{events.events:,} flights in {events.files} hourly files, {events.new_files} of them new")
    with story.step("stream all but the last day") as step:
        fresh = _deliver(arriving, landed, until=events.files - HELD_BACK)
        step.say(f"{fresh} new files" if fresh else "already there")
        run(engine, step)
    _show_status(engine, story)
    title = "stream the last day in another process; repair dirty days beside it"
    with story.step(title) as step, live_process(engine):
        fresh = _deliver(arriving, landed, until=events.files)
        step.say(f"{fresh} files landed meanwhile" if fresh else "the last day is already there")
        repaired = [repair_one_day(engine, step), repair(engine, step)]
        wait(lambda: all((s.unread or "0 ").startswith("0 ") for s in statuses(engine)), "data/live.log")
    with story.step("repair what the last day made dirty") as step:
        repaired.append(repair(engine, step))
    with story.step("fill in the windows that are still open, until the stream goes on") as step:
        done = engine.backfill("delays", Request(include_open=True))
        step.say(changes(done) or "no interval is open")
    holds = verified(engine, story, "")
    with story.step("undo the last repair, and redo it") as step:
        # An earlier one may have been replaced by then.
        _undo_and_redo(engine, next(filter(None, reversed(repaired)), None), step)
    _show_status(engine, story)
    return holds


def _deliver(arriving: Path, landed: Path, *, until: int) -> int:
    """Let the first files arrive: linked into the source folder under their final names, which is atomic."""
    landed.mkdir(parents=True, exist_ok=True)
    fresh = 0
    for path in sorted(arriving.glob("*.json"), key=lambda p: p.stat().st_mtime_ns)[: max(until, 0)]:
        target = landed / path.name
        if not target.exists():
            os.link(path, target)
            fresh += 1
    return fresh


def _show_status(engine: Engine, story: Story) -> None:
    with story.step("status") as step:
        say_states(engine, step)
        dirty = engine.coverage("delays").in_state(State.DIRTY)
        if dirty:
            step.say(f"late flights made {len(dirty)} days of delays dirty: {dirty[0]} to {dirty[-1]}")


def _undo_and_redo(engine: Engine, run: str | None, step: Step) -> None:
    if run is None:
        step.say("nothing was repaired this time")
        return
    name, undone = engine.find_run(run), engine.undo(run)
    state = {row.interval: row.state.value for row in engine.coverage(name).rows}
    step.say(f"undone: {', '.join(undone)}; {undone[0]} is {state[undone[0]]} again")
    engine.publish(run)
    state = {row.interval: row.state.value for row in engine.coverage(name).rows}
    step.say(f"redone: {', '.join(undone)}; {undone[0]} is {state[undone[0]]}")


if __name__ == "__main__":
    sys.exit(main())
