"""The demo: real flights through live streams, late ones found, their days repaired beside the stream.

    make demo            the first week of January 2013
    make demo DAYS=31    the month; DAYS=365 the year

What a second start finds done it leaves alone, and says so.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from jobs.flights_events import LAST_DAYS, write_events
from tidemill import Engine
from tidemill.cli.rows import Rows
from tidemill.display.pairs import paired
from tidemill.errors import TidemillError
from tidemill.execution.backfill import Done
from tidemill.intervals import parse_label
from tidemill.ledger.judge import State
from tidemill.planning.plan import explain
from tidemill.planning.selection import Request
from tidemill.reports import Status

PIPELINES = ("departures", "delays")
HELD_BACK = 24
"""How many event files arrive only while the backfill is at work."""

_DIRTY = frozenset({State.DIRTY})
_WAIT_SECONDS = 900


@dataclass
class Step:
    """One step under way: ``show`` prints a line, ``say`` also puts it on the last page."""

    console: Console
    said: list[str] = field(default_factory=list)

    def show(self, line: str) -> None:
        """Print a detail."""
        self.console.print(f"  {line}", markup=False)

    def say(self, line: str) -> None:
        """Print a result, and keep it."""
        self.said.append(line)
        self.show(line)


@dataclass
class Story:
    """What happened, step by step, with its seconds."""

    console: Console
    steps: list[tuple[str, str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Time a step; what it says is its result."""
        self.console.rule(f"[bold]{title}", align="left")
        step = Step(self.console)
        began = time.monotonic()
        yield step
        self.steps.append((title, "\n".join(step.said), time.monotonic() - began))

    def table(self, peak: int) -> Table:
        """The last page."""
        table = Table(title="What happened", title_justify="left")
        table.add_column("step")
        table.add_column("result")
        table.add_column("seconds", justify="right")
        for title, result, seconds in self.steps:
            table.add_row(title, result, f"{seconds:.1f}")
        table.add_section()
        table.add_row("memory", f"at most {peak / 1024:.2f} GiB in all processes together", "")
        return table


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
        _run(engine, step)
    _show_status(engine, story)
    title = "stream the last day in another process; repair dirty days beside it"
    with story.step(title) as step, _live_process(engine):
        fresh = _deliver(arriving, landed, until=events.files)
        step.say(f"{fresh} files landed meanwhile" if fresh else "the last day is already there")
        repaired = [_repair_one_day(engine, step), _repair(engine, step)]
        _wait(lambda: all((s.unread or "0 ").startswith("0 ") for s in statuses(engine)), "data/live.log")
    with story.step("repair what the last day made dirty") as step:
        repaired.append(_repair(engine, step))
    with story.step("fill in the windows that are still open, until the stream goes on") as step:
        done = engine.backfill("delays", Request(include_open=True))
        step.say(_changes(done) or "no interval is open")
    with story.step("verify both tables against a fresh computation") as step:
        holds = True
        for name in PIPELINES:
            verified = engine.verify(name)
            holds &= verified.holds
            step.say(f"{name}: {len(verified.intervals)} clean days, {len(verified.differing)} differ")
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


def _run(engine: Engine, step: Step) -> None:
    for outcome in engine.run(*PIPELINES):
        if outcome.error is not None:
            raise outcome.error
        step.say(f"{outcome.pipeline}: {outcome.batches} batches published")


def statuses(engine: Engine) -> list[Status]:
    """How the demo's pipelines stand."""
    return [engine.status(name)[0] for name in PIPELINES]


def _show_status(engine: Engine, story: Story) -> None:
    with story.step("status") as step:
        for status in statuses(engine):
            states = ", ".join(f"{count} {state}" for state, count in status.states.items())
            step.say(f"{status.pipeline}: {status.rows:,} rows; days: {states}; unread: {status.unread}")
        dirty = engine.coverage("delays").in_state(State.DIRTY)
        if dirty:
            step.say(f"late flights made {len(dirty)} days of delays dirty: {dirty[0]} to {dirty[-1]}")


@contextmanager
def _live_process(engine: Engine) -> Iterator[None]:
    """A live driver in a process of its own, ended by SIGTERM, which lets it finish its batch."""
    root = Path(engine.project.root)
    command = [sys.executable, "-m", "tidemill.cli.app", "--project", str(root)]
    command += ["run", *PIPELINES, "--trigger", "1 second"]
    log = root / "data/live.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)
        try:
            # Before it holds its leases a SIGTERM would end it as it does any process: with -15.
            _wait(lambda: process.poll() is not None or all(s.running for s in statuses(engine)), str(log))
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=120)
    if code:
        raise TidemillError(f"the live process ended with {code}", next_step=f"read {log}")


def _repair_one_day(engine: Engine, step: Step) -> str | None:
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
    step.say(f"{day}: {_changes(done)}")
    return _changed(done)


def _repair(engine: Engine, step: Step) -> str | None:
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
        step.say(f"{name}: {_changes(done)}")
    return run


def _changed(done: Done) -> str | None:
    return done.run if any(chunk.outcome == "swapped" for chunk in done.chunks) else None


def _changes(done: Done) -> str:
    manifests = [chunk.manifest for chunk in done.chunks if chunk.manifest is not None]
    results = [result for manifest in manifests for result in manifest.results.values()]
    if not results:
        return ""
    added, removed = sum(r.added for r in results), sum(r.removed for r in results)
    return f"{len(results)} day(s) recomputed, {added} rows in, {removed} rows out"


def _wait(condition: Callable[[], bool], log: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TidemillError("the live process makes no progress", next_step=f"read {log}")
        threading.Event().wait(0.5)


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


class Memory:
    """Watches the memory of this process and its children: proportional set sizes, twice a second."""

    def __init__(self) -> None:
        self.peak_mib = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.peak_mib = max(self.peak_mib, sum(map(_pss_mib, _tree(os.getpid()))))


def _tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def _pss_mib(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    sys.exit(main())
