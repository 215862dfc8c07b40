"""What the demos of the flights do with their pipelines, whatever the events come through."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.padding import Padding

from jobs.flights_check import WANTED, Event, differing
from jobs.story import Step, Story, wait
from tidemill import Engine
from tidemill.cli.rows import Rows
from tidemill.display import words
from tidemill.display.pairs import paired
from tidemill.errors import TidemillError
from tidemill.execution.backfill import Done
from tidemill.intervals import parse_label
from tidemill.ledger.judge import State
from tidemill.planning.plan import explain
from tidemill.planning.selection import Request
from tidemill.reports import Status

PIPELINES = ("departures", "delays")
_DIRTY = frozenset({State.DIRTY})


def run(engine: Engine, step: Step) -> None:
    """Stream all there is."""
    for outcome in engine.run(*PIPELINES):
        if outcome.error is not None:
            raise outcome.error
        batches = "1 batch" if outcome.batches == 1 else f"{outcome.batches} batches"
        step.say(f"{outcome.pipeline}: {batches} published")


def statuses(engine: Engine) -> list[Status]:
    """How the demo's pipelines stand."""
    return [engine.status(name)[0] for name in PIPELINES]


@contextmanager
def live_process(engine: Engine) -> Iterator[None]:
    """A live driver in a process of its own, ended by SIGTERM, which lets it finish its batch."""
    root = Path(engine.project.root)
    command = [sys.executable, "-m", "tidemill.cli.app", "--project", str(root)]
    command += ["run", *PIPELINES, "--trigger", "1 second"]
    log = root / "data/live.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)
        try:
            # Before it holds its leases a SIGTERM would end it as it does any process: with -15.
            wait(lambda: process.poll() is not None or all(s.running for s in statuses(engine)), str(log))
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=120)
    if code:
        raise TidemillError(f"the live process ended with {code}", next_step=f"read {log}")


def repair_one_day(engine: Engine, step: Step) -> str | None:
    """Repair the first dirty day on its own and show how it differed; give the run, if it changed something."""
    dirty = engine.coverage("delays").in_state(State.DIRTY)
    if not dirty:
        step.say("no day is dirty")
        return None
    day = parse_label(engine.project.pipeline("delays").grain, dirty[0])
    done = engine.backfill("delays", Request(start=day.start, end=day.end, states=_DIRTY))
    found = engine.diff(done.run)
    for manifest in found:
        step.console.print(Padding(Rows(paired(manifest.samples[:6], found.key), found.key), (0, 0, 0, 2)))
    step.say(f"{day}: {changes(done)}")
    return _changed(done)


def repair(engine: Engine, step: Step) -> str | None:
    """Repair what is dirty; give the last run that changed something."""
    run = None
    for name in PIPELINES:
        plan = engine.plan(name, Request(states=_DIRTY))
        if not plan.chunks:
            step.say(f"{name}: nothing is dirty")
            continue
        for line in explain(plan):
            step.show(line)
        done = engine.backfill(plan)
        run = _changed(done) or run
        step.say(f"{name}: {changes(done)}")
    return run


def _changed(done: Done) -> str | None:
    return done.run if any(chunk.outcome == "swapped" for chunk in done.chunks) else None


def changes(done: Done) -> str:
    """How many days and rows a repair changed; empty when there was nothing to do."""
    manifests = [chunk.manifest for chunk in done.chunks if chunk.manifest is not None]
    results = [result for manifest in manifests for result in manifest.results.values()]
    if not results:
        return ""
    added, removed = sum(r.added for r in results), sum(r.removed for r in results)
    return f"{words.count(len(results), 'day')} recomputed, {added} rows in, {removed} rows out"


def say_states(engine: Engine, step: Step) -> None:
    """Say how many days are in which state."""
    for status in statuses(engine):
        states = ", ".join(f"{count} {state}" for state, count in status.states.items())
        step.say(f"{status.pipeline}: {status.rows:,} rows; days: {states}; unread: {status.unread}")


def verified(engine: Engine, story: Story, what: str) -> bool:
    """Compare every clean day of both tables with a fresh computation."""
    holds = True
    with story.step(f"verify both tables against a fresh computation{what}") as step:
        for name in PIPELINES:
            found = engine.verify(name)
            holds &= found.holds
            step.say(f"{name}: {len(found.intervals)} clean days, {len(found.differing)} differ")
    return holds


def same_as_events(engine: Engine, story: Story, events: Sequence[Event]) -> bool:
    """Compare every row with what plain Python makes of the events."""
    differ = 0
    with story.step("compare every row with what plain Python makes of the events") as step:
        for name in PIPELINES:
            columns, wanted = WANTED[name]
            rows, apart = differing(engine.project.pipeline(name).table.path, columns, wanted(events))
            step.say(f"{name}: {rows:,} rows, {apart} differ")
            differ += apart
    return differ == 0
