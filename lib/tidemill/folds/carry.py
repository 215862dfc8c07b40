"""What a fold without a horizon carries from interval to interval: states at interval ends. Pure; no Spark.

The state at a moment E is what is there when all rows before E have been stepped and all timers before E have run. What is
given of an interval is the states that are others at its end than at its beginning, so that it grows with what happens
and not with the number of keys. Each comes with a difference of digests; all of an interval's together, by exclusive or, lead
from the digest of all states at its beginning to that at its end, whoever computed them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tidemill.errors import TransformError
from tidemill.folds.machine import Kept, Machine, microseconds, moment
from tidemill.folds.planting import Planting, Sowing
from tidemill.intervals import Grain

STATE = "_tidemill_state"
"""The column of a fold's frame that carries a state; null in its rows."""
START = "_tidemill_start"
"""The column of a batch's input that brings the state which a key begins with; null in rows."""

Digest = bytes
NOTHING: Digest = bytes(16)
"""The digest of no states at all, and of a key that is not kept."""


@dataclass(frozen=True)
class Carry:
    """How a fold carries its states: by which intervals, and which of its columns says a row's interval.

    ``since``, of a batch: where its first interval begins (epoch microseconds); rows before it are stepped, and give
    nothing. ``until``: where its last one ends.
    """

    grain: str
    column: str
    since: int | None = None
    until: int | None = None

    def start_of(self, at: int) -> int:
        """Where the interval begins that holds a moment; all in epoch microseconds."""
        return microseconds(Grain(self.grain).floor(moment(at)))

    def end_of(self, start: int) -> int:
        """Where the interval ends that begins at ``start``."""
        return microseconds(Grain(self.grain).after(moment(start)))


@dataclass(frozen=True, slots=True)
class Changed:
    """A key whose state at the end of the interval that begins at ``at`` is not what it was before.

    ``gone``: it is not kept any more. ``difference``: between the digests of both states.
    """

    at: int
    key: tuple[Any, ...]
    state: Any
    gone: bool
    difference: Digest


def digest(key: str, names: Sequence[str], state: Sequence[Any], zero: Sequence[Any]) -> Digest:
    """What tells a key's state from another, and one key's from another's.

    A field that is as in ``zero`` does not count: states keep their digests where a field is added.
    """
    told = [(name, value) for name, value, none in zip(names, state, zero, strict=True) if value != none]
    return hashlib.blake2b(repr((key, told)).encode(), digest_size=16).digest()


def difference(one: Digest, other: Digest) -> Digest:
    """Both digests, by exclusive or."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(16)


def halves(value: Digest) -> tuple[int, int]:
    """A digest as two whole numbers of 64 bits with a sign."""
    return int.from_bytes(value[:8], signed=True), int.from_bytes(value[8:], signed=True)


def joined(first: int, second: int) -> Digest:
    """A digest from its :func:`halves`."""
    return first.to_bytes(8, signed=True) + second.to_bytes(8, signed=True)


@dataclass(frozen=True, slots=True)
class Carrying:
    """What :func:`tidemill.folds.fold` is asked for: the fold's rows, and beside them its states at interval ends.

    ``start``: a frame of the states that a batch begins with (columns ``key`` and ``state``, each a struct), None where it
    begins with none. ``planting``: what a stream begins anew with. ``sowing``: asks a batch for what a stream could begin with.
    """

    how: Carry
    start: Any = None
    planting: Planting | None = None
    sowing: Sowing | None = None


_asked: ContextVar[Carrying | None] = ContextVar("tidemill_carrying", default=None)


@contextmanager
def carrying(what: Carrying | None) -> Iterator[None]:
    """While frames are built in here, folds without a horizon carry their states."""
    token = _asked.set(what)
    try:
        yield
    finally:
        _asked.reset(token)


def asked() -> Carrying | None:
    """What is asked for where a frame is being built."""
    return _asked.get()


def check_row(machine: Machine, row: tuple[Any, ...], place: int | None, start: int, end: int) -> None:
    """Raise :class:`TransformError` for a row that belongs to another interval than the one that is stepped."""
    if place is None or row[place] is None:
        return
    if not start <= microseconds(row[place]) < end:
        raise TransformError(
            f"fold {machine.name} gave a row of {row[place].isoformat()} while it stepped "
            f"{moment(start).isoformat()} to {moment(end).isoformat()}",
            next_step="a fold without a horizon gives rows of the interval that it steps: place rows by when they came out",
            fold=machine.name,
        )


def state_of(machine: Machine, key: tuple[Any, ...], state: Any) -> Kept:
    """A key as it was kept at the end of an interval; when it wants to be woken is the state's to say."""
    return machine.woken(Kept(key, state))
