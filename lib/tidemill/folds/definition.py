"""What an ordered fold is: a class that a pipeline's project writes. Pure; knows no Spark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, TypeVar

S = TypeVar("S", bound=tuple[Any, ...])
"""A key's state: a tuple with one value for each field of ``state``; a NamedTuple gives them names."""


class Fold(ABC, Generic[S]):
    """Custom state, as a fold of each key's rows in event-time order.

    Guarantees, on streams and on batches alike:

    - The rows of a key are stepped by ``time``, then by ``order_by`` (ascending, nulls first), whatever the order of
      arrival and the cuts of batches. On a stream a row waits until the watermark has reached its time.
    - Rows that are equal in both and differ elsewhere have no order: each goes to :meth:`failed`. Rows that are equal
      in every column are stepped one after the other.
    - :meth:`on_time` is called at the time that :meth:`due` gives, when every row before it has been stepped and
      before any row at or after it.
    - A key that has had no row for ``horizon`` is forgotten: its timers up to that moment have run, its next row
      starts from :meth:`zero`.

    ``state`` and ``output`` are schemas in Spark's DDL. All methods are pure: what they return depends on what they are
    given, and they change nothing that they are given. A row has the frame's columns as attributes; moments are
    datetimes in UTC.

    >>> class Visits(Fold[tuple[int]]):
    ...     key, time = ("user",), "at"
    ...     state, output = "visits BIGINT", "user STRING, at TIMESTAMP, visits BIGINT"
    ...     horizon = "30 days"
    ...     def zero(self):
    ...         return (0,)
    ...     def step(self, state, row):
    ...         visits = state[0] + 1
    ...         return (visits,), [(row.user, row.at, visits)]
    """

    key: ClassVar[tuple[str, ...]]
    """The columns whose values make a key: text, whole numbers, decimals, booleans, dates, timestamps or bytes."""
    time: ClassVar[str]
    """The column of the event time; on a stream the one with the watermark."""
    order_by: ClassVar[tuple[str, ...]] = ()
    """Columns that order rows of one key and one time; not floating point."""
    state: ClassVar[str]
    output: ClassVar[str]
    horizon: ClassVar[str | None] = None
    """How far back what comes out at a moment depends on rows (``"12h"``); None: without bound. It is a promise:
    ``tidemill verify --probe`` looks for intervals in which it does not hold."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Fields of ``state`` that had another name in states that a stream has stored: new name to old name."""
    emit: ClassVar[Literal["ordered", "immediate"]] = "ordered"
    """``immediate``: a stream steps rows as they arrive, sorted within a batch alone; timers still wait for the watermark.
    What comes out then depends on arrival, and every interval that a batch may have changed is dirty until a backfill
    has recomputed it. Batches do not differ."""
    buckets: ClassVar[int] = 16
    """In how many parts a stream stores its keys; once it has begun, another number takes ``tidemill restart``."""

    once: ClassVar[str | None] = None
    """A column of 16 bytes, as good as random, that a key's rows share with no other's: of rows with one value the first is
    stepped, and no other, for ever. Of folds that are immediate alone: which is the first is a matter of arrival; within a
    batch it is the least in time, then in ``order_by``. A stream keeps each value."""

    @abstractmethod
    def zero(self) -> S:
        """The state of a key that has had no row."""

    @abstractmethod
    def step(self, state: S, row: Any) -> tuple[S, Iterable[tuple[Any, ...]]]:
        """The state after a row, and the rows that come out, each with one value a field of ``output``."""

    def due(self, state: S) -> datetime | None:
        """When :meth:`on_time` is next wanted, by the state alone; a time that has passed is due at once."""
        del state
        return None

    def on_time(self, key: tuple[Any, ...], state: S, time: datetime) -> tuple[S, Iterable[tuple[Any, ...]]]:
        """The state and the rows at a time that was due. Afterwards :meth:`due` must be later than ``time``, or None."""
        raise NotImplementedError

    def failed(self, row: Any, error: Exception) -> Iterable[tuple[Any, ...]]:
        """What comes out for a row that could not be stepped; the key's state is then what it was before the row.

        Called when :meth:`step` raised, for a null in the key, and for rows without an order among them (``error`` is a
        :class:`~tidemill.errors.TransformError` that names key and event). Unless overridden, it raises ``error``,
        which ends the run. To set such rows aside, return them with a column that says why, and let an expectation on
        that column quarantine them.
        """
        del row
        raise error

    def known(self, value: bytes) -> bool:
        """Whether a row with this value of ``once`` was stepped before the stream's own states began."""
        del value
        return False
