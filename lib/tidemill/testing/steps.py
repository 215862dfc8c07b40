"""The steps of a scenario: what arrives, what runs, what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from tidemill.display import words
from tidemill.intervals import parse_moment, utc
from tidemill.ledger.judge import NOT_CLEAN
from tidemill.model import Trigger
from tidemill.planning.selection import Request
from tidemill.protocol import Point
from tidemill.testing.processes import Process
from tidemill.testing.scenario import Oracle, Scenario, Step
from tidemill.testing.source import Event


def add(*events: Event, to: str | None = None) -> Step:
    """Events arrive together at an input (the only one, when none is named)."""
    return Step(f"add {words.count(len(events), 'event')}", lambda s: s.source(to).add(*events))


def late(*events: Event, to: str | None = None) -> Step:
    """As :func:`add`, and each event must lie below the watermark that the stream has reached."""

    def do(scenario: Scenario) -> None:
        pipeline = scenario.engine.project.pipeline(scenario.name)
        column = pipeline.event_time_of(to or next(iter(scenario.sources))).column
        watermark = scenario.engine.view(scenario.name).coverage.watermark or 0
        for event in events:
            if utc(event[column]).timestamp() * 1000 >= watermark:
                raise AssertionError(f"{event[column]} is not late: the watermark stands at {watermark} ms")
        scenario.source(to).add(*events)

    return Step(f"late: {words.count(len(events), 'event')}", do)


def poison(*records: str, to: str | None = None) -> Step:
    """Lines arrive that are no events."""
    return Step(f"poison: {words.count(len(records), 'record')}", lambda s: s.source(to).add_raw(*records))


def advance(by: timedelta) -> Step:
    """The clock goes on."""
    return Step(f"advance the clock by {by}", lambda s: s.clock.set(s.clock.now() + by))


def edit(path: str, text: str, oracle: Oracle | None = None) -> Step:
    """A file of the project gets new text; ``oracle``: what the table must hold by the new code."""

    def do(scenario: Scenario) -> None:
        (scenario.folder / path).write_text(text, encoding="utf-8")
        scenario.oracle = oracle or scenario.oracle
        scenario.changed()

    return Step(f"edit {path}", do)


def run() -> Step:
    """The stream reads all there is, in this process, and ends."""

    def do(scenario: Scenario) -> None:
        for outcome in scenario.engine.run(scenario.name, trigger=Trigger(available_now=True)):
            if outcome.error is not None:
                raise outcome.error

    return Step("run", do)


def start(*, hold: tuple[Point, ...] = ()) -> Step:
    """A live stream begins, in a process of its own, held at each point of ``hold``."""

    def do(scenario: Scenario) -> None:
        scenario.live = scenario.process("stream", hold=hold)

    return Step(f"start the stream{', held at ' + ', '.join(hold) if hold else ''}", do)


def until(what: str, condition: Callable[[Scenario], bool]) -> Step:
    """Wait until ``condition`` holds, while the live stream runs."""
    return Step(f"until {what}", lambda s: _live(s).wait_until(lambda: condition(s), what))


def release(point: Point) -> Step:
    """The live stream has come to ``point``, where it is held, and may go on."""

    def do(scenario: Scenario) -> None:
        at = _live(scenario).held()
        if at is not point:
            raise AssertionError(f"the stream is held at {at}, not at {point}")
        _live(scenario).release()

    return Step(f"release the stream from {point}", do)


def stop() -> Step:
    """The live stream is told to end, finishes its batch, and ends well."""

    def do(scenario: Scenario) -> None:
        _live(scenario).free()
        _live(scenario).stop()

    return Step("stop the stream", do)


def kill() -> Step:
    """Kill -9 of the live stream's process group."""
    return Step("kill the stream", lambda s: _live(s).kill())


def crash(at: Point, *, nth: int = 1, verb: str = "run", **options: object) -> Step:
    """A verb, in a process of its own, kills its whole process group at ``at``, the ``nth`` time it comes there."""

    def do(scenario: Scenario) -> None:
        names = (scenario.run,) if verb in {"resume", "publish", "undo"} and scenario.run else ()
        process = scenario.process(verb, *names, crash=at, crash_nth=nth, **options)
        if not process.wait_killed():
            raise AssertionError(f"{verb} ended without coming to {at}\n{process.said}")
        runs = sorted((scenario.folder / f"{_state(scenario)}/runs").glob("*"))
        if verb == "backfill" and runs:
            scenario.run = runs[-1].name

    return Step(f"crash at {at}, in {verb}", do)


def backfill(begin: str | None = None, end: str | None = None, *, open_too: bool = False) -> Step:
    """Recompute ``[begin, end)``; everything that is not clean when nothing is named."""
    request = (
        Request.between(begin, end)
        if begin and end
        else Request(start=parse_moment(begin) if begin else None, states=NOT_CLEAN, include_open=open_too)
    )

    def do(scenario: Scenario) -> None:
        done = scenario.engine.backfill(scenario.name, request)
        if done.refused is not None:
            raise done.refused
        scenario.run = done.run if done.chunks else scenario.run

    return Step(f"backfill {f'{begin} to {end}' if begin else 'what is not clean'}", do)


def stage(begin: str, end: str) -> Step:
    """Compute ``[begin, end)`` and publish nothing; see :func:`swap`."""

    def do(scenario: Scenario) -> None:
        request = Request.between(begin, end)
        scenario.run = scenario.engine.backfill(scenario.name, request, stage_only=True).run

    return Step(f"stage {begin} to {end}", do)


def swap() -> Step:
    """Publish what the last backfill staged, or what was undone of it."""
    return Step("swap", lambda s: s.engine.publish(_run(s)))


def undo() -> Step:
    """Take the last backfill's swaps back."""
    return Step("undo", lambda s: s.engine.undo(_run(s)))


def resume() -> Step:
    """Carry the last backfill on."""
    return Step("resume", lambda s: s.engine.resume(_run(s)))


def maintain(*, retention_hours: int = 168) -> Step:
    """Compact, write a log checkpoint, vacuum."""
    return Step("maintain", lambda s: s.engine.maintain(s.name, retention_hours=retention_hours))


def verify() -> Step:
    """Recompute every clean interval: they must hold."""

    def do(scenario: Scenario) -> None:
        if not scenario.engine.verify(scenario.name).holds:
            raise AssertionError("verify found clean intervals that differ from today's code")

    return Step("verify", do)


def whole() -> Step:
    """Every interval must hold what the oracle says, whatever it is called."""
    return Step("everything is there", lambda s: s.check(whole=True))


def _live(scenario: Scenario) -> Process:
    if scenario.live is None:
        raise AssertionError("no stream was started")
    return scenario.live


def _run(scenario: Scenario) -> str:
    if scenario.run is None:
        raise AssertionError("no backfill came before")
    return scenario.run


def _state(scenario: Scenario) -> str:
    return scenario.engine.project.pipeline(scenario.name).table.state_path
