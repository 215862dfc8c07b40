"""Random histories: events out of order, late and repeated, cut into files that arrive in rounds.

A clock goes forward from file to file; an event happened some time before the clock of the file that brings it. Times
lie on a grid of five minutes, so that equal times, exact gaps and window edges are common, and sometimes a millisecond
beside it. Hypothesis draws a history's seed, the seed draws the rest: of a few examples each is a full history, where
hypothesis by itself begins with the least. A failing history prints itself, seed and all; ``history(seed)`` is it again.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

BEGIN = 1_709_078_400_000_000
"""2024-02-28T00:00Z, the day before a leap day, in microseconds."""
_MINUTE = 60_000_000
_HOUR = 60 * _MINUTE
MOST_EVENTS = 40
MOST_VALUE = 11


@dataclass(frozen=True, slots=True)
class Event:
    """A good event; ``at`` in microseconds since 1970."""

    id: str
    key: str
    value: int
    at: int

    def line(self) -> str:
        return json.dumps({"id": self.id, "key": self.key, "value": self.value, "at": moment(self.at)})


@dataclass(frozen=True, slots=True)
class Poison:
    """A line that is no event."""

    text: str

    def line(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Blank:
    """An empty line, which is nothing at all."""

    def line(self) -> str:
        return ""


Line = Event | Poison | Blank


@dataclass(frozen=True, slots=True)
class File:
    """A file that arrives in the folder of one input."""

    input: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """Files arrive, the live streams read them with one version of the code, then people do ``deeds``."""

    files: tuple[File, ...]
    code: str
    deeds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    """Rounds, and how many files make a batch."""

    rounds: tuple[Round, ...]
    files_per_batch: int = 1
    seed: int | None = None

    def __repr__(self) -> str:
        lines = [f"seed={self.seed} files_per_batch={self.files_per_batch}"]
        for number, each in enumerate(self.rounds):
            lines.append(f"round {number}: code {each.code}, then {', '.join(each.deeds) or 'nothing'}")
            for file in each.files:
                lines.append(f"  file of {file.input}")
                lines += [f"    {line.line()}" for line in file.lines]
        return "History:\n" + "\n".join(lines)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # noqa: FBT001  hypothesis calls it so
        printer.text(repr(self))


def moment(at: int) -> str:
    """As a source writes it."""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def good(files: Sequence[File], name: str) -> list[Event]:
    """The good events of one input, as often as they came."""
    return [line for f in files if f.input == name for line in f.lines if isinstance(line, Event)]


def bad(files: Sequence[File], *names: str) -> int:
    """How many poison rows came to these inputs."""
    return sum(isinstance(line, Poison) for f in files if f.input in names for line in f.lines)


class Folder:
    """The folders of the inputs, as a source fills them: each file under a hidden name first, each a second later."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        for name in ("events", "others", "names"):
            (root / "in" / name).mkdir(parents=True)

    def add(self, file: File) -> None:
        self._count += 1
        path = self._root / "in" / file.input / f"{self._count:04d}.json"
        hidden = path.with_name(f".{path.name}")
        hidden.write_text("\n".join(line.line() for line in file.lines) + "\n", encoding="utf-8")
        stamp = 1_700_000_000 + self._count
        os.utime(hidden, (stamp, stamp))
        hidden.rename(path)

    def add_names(self, names: dict[str, str]) -> None:
        text = "\n".join(json.dumps({"key": key, "name": name}) for key, name in names.items())
        (self._root / "in" / "names" / "names.json").write_text(text + "\n", encoding="utf-8")


POISONS = (
    '{"id": "half", "key": "a", "val',
    '{"id": "timeless", "key": "a", "value": 1, "at": null}',
    '{"id": "timeless", "key": "a", "value": 1}',
    '{"id": "mistyped", "key": "b", "value": "much", "at": "2024-02-28T10:00:00.000000Z"}',
    '{"id": "mistyped", "key": "b", "value": 1, "at": "yesterday"}',
    '{"id": "ancient", "key": "b", "value": 1, "at": "0012-02-28T10:00:00.000000Z"}',
)
# How far the clock goes on before a file, and how long before the clock an event happened.
_STEPS = (7, 3, 13, 0, 26, 1)
_DELAYS = (0, 0, 0, 1, 2, 5, 9, 30)
_DEEDS: tuple[tuple[str, ...], ...] = (
    ("repair", "open"),
    ("open", "open"),
    ("repair", "undo", "redo"),
    ("repair", "undo"),
    (),
    ("open", "repair"),
    ("stage", "undo", "publish"),
    ("repair",),
)


def histories() -> st.SearchStrategy[History]:
    """Histories of at most ``MOST_EVENTS`` events in two or three rounds of one to three files an input."""
    return st.builds(history, st.integers(0, 2**32 - 1))


def history(seed: int) -> History:
    """The history of a seed."""
    maker = _Maker(random.Random(seed))
    count = maker.choose((2, 2, 3))
    made = tuple(maker.round(last=number == count - 1) for number in range(count))
    return History(made, maker.choose((1, 1, 2)), seed)


class _Maker:
    def __init__(self, draw: random.Random) -> None:
        self.choose = draw.choice
        self._some = draw.randint
        self._clock = BEGIN + 12 * _HOUR
        self._count = 0
        self._sent: dict[str, list[Event]] = {"events": [], "others": []}

    def round(self, *, last: bool) -> Round:
        files: list[File] = []
        for _ in range(self._some(1, 3)):
            self._clock += self.choose(_STEPS) * _HOUR + self.choose((0, 5, 35)) * _MINUTE
            files.append(self._file("events", 7))
            if self.choose((True, True, False)):
                files.append(self._file("others", 4))
        code = self.choose(("a", "a", "b"))
        return Round(tuple(files), code, () if last else self.choose(_DEEDS))

    def _file(self, name: str, most: int) -> File:
        nature = self.choose(("full",) * 8 + ("blank", "bad"))
        if nature == "blank":
            return File(name, (Blank(), Blank()))
        if nature == "bad":
            return File(name, (Poison(self.choose(POISONS)),))
        lines = [self._event(name) for _ in range(self._some(2, most))]
        if self.choose((False,) * 5 + (True,)):
            lines.insert(len(lines) // 2, Poison(self.choose(POISONS)))
        return File(name, tuple(lines))

    def _event(self, name: str) -> Line:
        sent = self._sent[name]
        if self._count >= MOST_EVENTS:
            return Blank()
        self._count += 1
        if sent and self._some(1, 10) == 1:
            event = self.choose(sent)
        else:
            back = self.choose(_DELAYS) * _HOUR + self._some(0, 11) * 5 * _MINUTE
            at = self._clock - back + self.choose((0, 0, 0, 0, -1000, 1000, -1, 1))
            event = Event(
                f"{name[0]}{self._count}", self.choose(("a", "b", "c")), self._some(0, MOST_VALUE), at
            )
        sent.append(event)
        return event
