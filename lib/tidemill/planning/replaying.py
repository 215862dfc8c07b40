"""What a replay into another table means: which events, and a place where nothing stands that it could hurt. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tidemill.config import Project
from tidemill.errors import ConfigError, PlanError, TidemillError
from tidemill.intervals import BEGINNING, END, parse_moment, utc
from tidemill.model import Pipeline
from tidemill.planning.recorded import check_not_replayed

POSITION = "position"
"""The column that is taken for an event's position where none is named."""
_SPEED = re.compile(r"\s*(\d+(?:\.\d+)?)\s*x?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Events:
    """Which events are replayed: those with an event time in ``[start, end)``, and a position up to and with ``position``."""

    start: datetime | None = None
    end: datetime | None = None
    position: int | None = None
    position_column: str | None = None

    @classmethod
    def of(
        cls,
        start: str | datetime | None,
        until: str | int | datetime | None,
        position_column: str | None = None,
    ) -> Events:
        """As a person says it: ``until`` is a position where it is digits alone, else a moment.

        Raises :class:`PlanError` for what is neither, and for nothing at all.

        >>> Events.of(None, "17").position, Events.of(None, "2024-05-01").end.day
        (17, 1)
        """
        begin = _moment(start, "--from") if start is not None else None
        if isinstance(until, str) and until.strip().isdecimal():
            until = int(until)
        if isinstance(until, int):
            return cls(begin, None, until, position_column)
        if position_column is not None:
            raise PlanError(
                f"{position_column} is named as the position, and no position is given",
                next_step="--until N replays the events up to and with position N",
            )
        end = _moment(until, "--until") if until is not None else None
        if begin and end and begin >= end:
            raise PlanError(
                f"no event is from {begin:%Y-%m-%dT%H:%M:%S} on and before {end:%Y-%m-%dT%H:%M:%S}",
                next_step="--until is not included: --from 2024-05-01 --until 2024-05-02 is one day",
            )
        return cls(begin, end)

    @property
    def all(self) -> bool:
        """Whether no event is left out."""
        return self == Events()

    @property
    def said(self) -> str:
        """The events, in words."""
        parts = [f"from {self.start:%Y-%m-%dT%H:%M:%SZ}"] if self.start else []
        parts += [f"before {self.end:%Y-%m-%dT%H:%M:%SZ}"] if self.end else []
        parts += [f"up to position {self.position}"] if self.position is not None else []
        return "events " + ", ".join(parts) if parts else "all events"

    @property
    def range(self) -> tuple[datetime, datetime]:
        """The event times, whole where none are left out."""
        return self.start or BEGINNING, self.end or END


def _moment(value: str | datetime, option: str) -> datetime:
    if isinstance(value, datetime):
        return utc(value)
    try:
        return parse_moment(value)
    except TidemillError as error:
        what = "neither a moment nor a position" if option == "--until" else "no moment"
        raise PlanError(
            f"{option} {value!r} is {what}",
            next_step=f"{error.next_step}; a position is a whole number"
            if option == "--until"
            else error.next_step,
        ) from None


def parse_speed(text: str | float) -> float:
    """How many times faster than the events happened: ``10x``, ``0.5`` or a number. Raises :class:`PlanError`.

    >>> parse_speed("10x"), parse_speed(0.5)
    (10.0, 0.5)
    """
    found = _SPEED.fullmatch(str(text))
    speed = float(found[1]) if found else 0.0
    if not 0 < speed <= 1_000_000:
        raise PlanError(
            f"{text!r} is no speed",
            next_step="write 10x for ten times as fast as the events happened, 1x for as fast, 0.5x for half as fast",
        )
    return speed


def check_apart(project: Project, pipeline: Pipeline, into: str) -> None:
    """Raise :class:`PlanError` unless a table at ``into`` lies apart from everything that pipelines write and read."""
    into = into.rstrip("/")
    # What it is comes before what it is part of.
    for path, what in sorted(_places(project), key=lambda each: each[0] != into):
        if _within(into, path) or _within(path, into):
            mine = what == f"the table of {pipeline.name}"
            raise PlanError(
                f"{into} is {what}" if into == path else f"{into} and {what}, {path}, lie in each other",
                next_step=f"to make the table anew where it is: tidemill replay {pipeline.name}, without --into"
                if mine and into == path
                else "replay into a folder of its own, which is not there yet",
                path=into,
            )


def _places(project: Project) -> Iterator[tuple[str, str]]:
    for name, pipeline in project.pipelines.items():
        yield pipeline.table.path.rstrip("/"), f"the table of {name}"
        yield pipeline.quarantine_path, f"the quarantine of {name}"
        yield pipeline.unsent_path, f"the unsent rows of {name}"
        yield pipeline.states_path, f"the states of {name}"
        yield pipeline.rejections_path, f"the rejections of {name}"
        yield pipeline.table.state_path.rstrip("/"), f"the state of {name}"
    for name, pipeline in project.pipelines.items():
        for input_name, each in pipeline.inputs.items():
            source = each.files or each.delta
            if source is not None:
                yield source.path.rstrip("/"), f"what {name} reads as {input_name}"


def _within(inner: str, outer: str) -> bool:
    return f"{inner}/".startswith(f"{outer}/")


def check_whole(pipeline: Pipeline, events: Events, *, paced: bool) -> None:
    """Raise :class:`ConfigError` where a table is to be made anew in place, and of some of its events only; :class:`PlanError`
    for an event store, whose table is not made anew at all.
    """
    check_not_replayed(pipeline)
    if paced or not events.all:
        what = "--speed" if paced else "--from" if events.start else "--until"
        raise ConfigError(
            f"{what} is for a replay into another table: {pipeline.name}'s own holds all of its events",
            next_step=f"add --into PATH; or make all of it anew: tidemill replay {pipeline.name}",
        )
