"""What commits say of the state that a fold without a horizon carries from interval to interval. Pure.

A digest, as 32 hexadecimal digits, stands for all states at a moment, however they were come to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTHING = "0" * 32
"""The digest of no states at all."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What the stream gave at an interval's end: the digest ``after`` it, and under which names states were kept (``made``)."""

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


@dataclass(frozen=True, slots=True)
class Seed:
    """What a stream is to begin anew with, in its next batch: the folder ``name`` below ``seeds/`` beside its checkpoint.

    ``query`` and ``batch``: the last that it has published; ``reached``: up to when (epoch milliseconds) rows were stepped
    there. Of a fold without a horizon, ``last`` is the last interval whose end lies before, and ``state`` the digest of all
    states at that end; both are "" where it has one.
    """

    name: str
    query: str
    batch: int
    reached: int
    last: str = ""
    state: str = ""


Given = Mapping[str, tuple[str, str]]
"""Of a live batch, by interval whose end it passed: the difference of digests, and the name of what was kept."""


def passed(known: Mapping[str, Lived], state: str, last: str, given: Given) -> dict[str, Lived]:
    """What the stream's states are at the ends of intervals after one more batch, where that says something new.

    ``known``: what they were; ``state``: their digest at the end of ``last``, the last interval that was given. A row that
    came late, and was taken in all the same, changes an end that was given, and those after it.

    >>> one = passed({}, NOTHING, "", {"2024-03-01": ("5".zfill(32), "a"), "2024-03-02": ("3".zfill(32), "a")})
    >>> one["2024-03-02"].after[-1]
    '6'
    >>> two = passed(one, one["2024-03-02"].after, "2024-03-02", {"2024-03-01": ("8".zfill(32), "b")})
    >>> [(label, each.after[-1], each.made) for label, each in two.items()]
    [('2024-03-01', 'd', 'a+b'), ('2024-03-02', 'e', 'a')]
    """
    found: dict[str, Lived] = {}
    for label, (difference, made) in sorted(given.items()):
        if label > last:
            state, last = apart(state, difference), label
            found[label] = Lived(state, made)
            continue
        merged = {**known, **found}
        before = merged.get(label)
        if before is None:
            earlier = max((each for each in merged if each < label), default=None)
            found[label] = Lived(
                apart(NOTHING if earlier is None else merged[earlier].after, difference), made
            )
        else:
            found[label] = Lived(apart(before.after, difference), f"{before.made}+{made}")
        for later, each in merged.items():
            if later > label:
                found[later] = Lived(apart(each.after, difference), each.made)
        state = apart(state, difference)
    return found


def names_in(made: str | None) -> frozenset[str]:
    """The names under which states are kept that an interval changed."""
    return frozenset(made.split("+")) if made else frozenset()


def apart(one: str, other: str) -> str:
    """Both digests, by exclusive or."""
    return f"{int(one, 16) ^ int(other, 16):032x}"


def given_from_json(body: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What a live batch's fact holds of it."""
    return {label: (str(difference), str(made)) for label, (difference, made) in body.items()}


def carried_from_json(body: Mapping[str, Any]) -> dict[str, Carried]:
    """What a swap's fact holds of it."""
    return {label: Carried(**each) for label, each in body.items()}
