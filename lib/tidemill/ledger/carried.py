"""What commits say of the state that a fold without a horizon carries from interval to interval. Pure.

A digest, as 32 hexadecimal digits, stands for all states at a moment, however they were come to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NOTHING = "0" * 32
"""The digest of no states at all."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What the stream gave at an interval's end: the digest ``after`` it, and under which name states were kept (``made``)."""

    after: str
    made: str


@dataclass(frozen=True, slots=True)
class Carried:
    """What a backfill of an interval began with and ended with.

    ``before`` is None where it read all there was before. ``made``: under which name the states are kept that are others at
    the interval's end; None where none are.
    """

    before: str | None
    after: str
    made: str | None = None


Given = Mapping[str, tuple[str, str]]
"""Of a live batch, by interval whose end it passed: the difference of digests, and the name of what was kept."""


def passed(state: str, given: Given) -> Iterator[tuple[str, Lived]]:
    """What the stream's state was at the ends of intervals, in order, after ``state``.

    >>> dict(passed("0" * 32, {"2024-03-02": ("3".zfill(32), "b"), "2024-03-01": ("5".zfill(32), "a")}))["2024-03-02"]
    Lived(after='00000000000000000000000000000006', made='b')
    """
    for label, (difference, made) in sorted(given.items()):
        state = apart(state, difference)
        yield label, Lived(state, made)


def apart(one: str, other: str) -> str:
    """Both digests, by exclusive or."""
    return f"{int(one, 16) ^ int(other, 16):032x}"


def given_from_json(body: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What a live batch's fact holds of it."""
    return {label: (str(difference), str(made)) for label, (difference, made) in body.items()}


def carried_from_json(body: Mapping[str, Any]) -> dict[str, Carried]:
    """What a swap's fact holds of it."""
    return {label: Carried(**each) for label, each in body.items()}
