"""Runs one key of a fold: the interpreter that streams and batches share. Pure; microseconds a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from tidemill.errors import TransformError
from tidemill.folds.definition import Fold

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_SET_ASIDE = "correct the fold or the row; or let the fold's failed() give rows for it, and set those aside"
_CORRECT = "correct {}: what it raises ends the run, whatever rows there are"
_GO_ON = "correct on_time, or due: what on_time leaves must have due say None, or a later moment"

Row = tuple[int, Any, bool]
"""A row on its way: its time in epoch microseconds, itself, and whether a neighbour may have its time and its order."""


@dataclass(slots=True)
class Kept:
    """What is kept of one key. ``last``: the time of its newest row; ``wake``: when something is to be done for it
    without a row: a timer, or forgetting it. Both in epoch microseconds.
    """

    key: tuple[Any, ...]
    state: Any
    last: int | None = None
    wake: int | None = None
    given: bytes | None = None
    """Of a fold that carries its states: the digest of the state that was given last."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A fold, ready to run."""

    fold: Fold[Any]
    horizon: int | None = None
    """In microseconds."""
    timed: bool = True
    """Whether the fold has timers at all."""

    @property
    def _order(self) -> Callable[[Any], Any]:
        return attrgetter(*self.fold.order_by)

    @property
    def name(self) -> str:
        """The fold's name."""
        return type(self.fold).__name__

    def begin(self, key: tuple[Any, ...]) -> Kept:
        """A key that has had no row."""
        return Kept(key, self.fold.zero())

    def woken(self, kept: Kept) -> Kept:
        """The key, to be woken when its state says."""
        kept.wake = self._next(kept)
        return kept

    def idle(self, kept: Kept) -> bool:
        """Whether the key may be left out of the store: without a row, it would be the same."""
        return kept.wake is None and bool(kept.state == self.fold.zero())

    def run(self, kept: Kept, rows: Iterable[Row], until: int | None) -> Iterator[tuple[Any, ...]]:
        """Step ``rows``, which are sorted, then do what is due up to ``until`` (None: all); gives what comes out.

        ``kept`` is changed on the way, and is what is to be kept once the iterator has ended.
        """
        step, keyed = self.fold.step, None not in kept.key
        order = self._order if self.fold.order_by else None
        for time, row, tied in ordered(rows, order):
            if kept.wake is not None and kept.wake <= time:
                yield from self._wake(kept, time)
            if tied or not keyed:
                yield from self._failed(row, time, self._refused(row, time, tied=tied))
                continue
            try:
                state, out = step(kept.state, row)
                if type(out) is not list:
                    out = list(out)
            except Exception as error:  # noqa: BLE001  # the project's own code may raise anything
                problem = self._named(f"step raised {_said(error)}", kept.key, time)
                problem.__cause__ = error
                yield from self._failed(row, time, problem)
                continue
            kept.state, kept.last = state, time
            if self.timed:
                kept.wake = self._next(kept)
            elif self.horizon is not None:
                kept.wake = time + self.horizon
            yield from out
        if kept.wake is not None and (until is None or kept.wake <= until):
            yield from self._wake(kept, until)

    def _wake(self, kept: Kept, until: int | None) -> Iterator[tuple[Any, ...]]:
        while kept.wake is not None and (until is None or kept.wake <= until):
            now, due = kept.wake, self._due(kept)
            if self.horizon is None and (due is None or due > now):
                kept.wake = due
                continue
            if due is None or due > now:
                # The horizon has passed: the next row begins anew.
                kept.state, kept.last, kept.wake = self.fold.zero(), None, None
                return
            try:
                kept.state, out = self.fold.on_time(kept.key, kept.state, moment(now))
                out = list(out)
            except Exception as error:
                raise self._named(
                    f"on_time raised {_said(error)}", kept.key, now, _CORRECT.format("on_time")
                ) from error
            kept.wake = self._next(kept)
            after = self._due(kept)
            if after is not None and after <= now:
                raise self._named("after on_time, due is not later than before", kept.key, now, _GO_ON)
            yield from out

    def _next(self, kept: Kept) -> int | None:
        due = self._due(kept) if self.timed else None
        if self.horizon is None or kept.last is None:
            return due
        end = kept.last + self.horizon
        return end if due is None or due > end else due

    def _due(self, kept: Kept) -> int | None:
        try:
            due = self.fold.due(kept.state)
            return None if due is None else microseconds(due)
        except Exception as error:
            # It is of the state alone: the time of the key's newest row says where to look.
            raise self._named(
                f"due raised {_said(error)}", kept.key, kept.last, _CORRECT.format("due")
            ) from error

    def _refused(self, row: Any, time: int, *, tied: bool) -> TransformError:
        # Its own: rows without a key are of one group, whatever else their keys say.
        key = tuple(getattr(row, name) for name in self.fold.key)
        why = (
            "two different rows have one time and one order: add a column to order_by"
            if tied and None not in key
            else "a column of the key is null"
        )
        return self._named(why, key, time)

    def _failed(self, row: Any, time: int, error: TransformError) -> Iterator[tuple[Any, ...]]:
        try:
            out = list(self.fold.failed(row, error))
        except Exception as another:
            if another is error:  # as it is unless a fold says otherwise
                raise
            key = tuple(getattr(row, name) for name in self.fold.key)
            raise self._named(
                f"failed raised {_said(another)}", key, time, _CORRECT.format("failed")
            ) from another
        yield from out

    def _named(
        self, what: str, key: tuple[Any, ...], time: int | None, next_step: str = _SET_ASIDE
    ) -> TransformError:
        shown = ", ".join(f"{n}={v!r}" for n, v in zip(self.fold.key, key, strict=True))
        when = "" if time is None else f", at {self.fold.time}={moment(time).isoformat()}"
        return TransformError(
            f"fold {self.name}: {what}, for key {shown}{when}", next_step=next_step, fold=self.name, key=shown
        )


def ordered(rows: Iterable[Row], order: Callable[[Any], Any] | None) -> Iterator[Row]:
    """Sorted rows, and of each whether its order leaves it open which comes first.

    Those that no neighbour can be equal to, which is nearly all, are passed on as they are.
    """
    group: list[Row] = []
    for each in rows:
        if group and (not each[2] or not _alike(group[-1], each, order)):
            yield from _settled(group)
            group = []
        if each[2]:
            group.append(each)
        else:
            yield each
    if group:
        yield from _settled(group)


def _alike(one: Row, other: Row, order: Callable[[Any], Any] | None) -> bool:
    return one[0] == other[0] and (order is None or bool(order(one[1]) == order(other[1])))


def _settled(group: list[Row]) -> Iterator[Row]:
    tied = any(each[1] != group[0][1] for each in group)
    for time, row, _ in sorted(group, key=lambda each: repr(each[1])) if tied else group:
        yield time, row, tied


def moment(microseconds: int) -> datetime:
    """The moment, from epoch microseconds."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(moment: datetime) -> int:
    """Epoch microseconds of a moment; one without a zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _TICK


def _said(error: Exception) -> str:
    # In a line: what a worker raises comes to its driver as text, in which the message ends with its line.
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
