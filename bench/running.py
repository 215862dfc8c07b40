"""A running count and sum by key, and totals of windows by key: as folds, and as one would write them without.

Each gives the same rows over input that arrives in order: then the per-key processors need not sort, nor wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pandas as pd
from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F
from pyspark.sql.streaming.stateful_processor import StatefulProcessor, StatefulProcessorHandle

from tidemill.folds import Fold, fold

WINDOW = timedelta(minutes=10)
RUNNING = "user_id INT, at TIMESTAMP, number BIGINT, events BIGINT, total_cents BIGINT"
WINDOWS = "user_id INT, begins_at TIMESTAMP, events BIGINT, total_cents BIGINT"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Total(NamedTuple):
    """What is kept of a key."""

    events: int
    cents: int


class Running(Fold[Total]):
    """A row for each row: how many of its key there have been, and their sum."""

    key, time, order_by = ("user_id",), "at", ("number",)
    state, output, horizon = "events BIGINT, cents BIGINT", RUNNING, "365 days"

    def zero(self) -> Total:
        """Nothing yet."""
        return Total(0, 0)

    def step(self, state: Total, row: Any) -> tuple[Total, Iterable[tuple[Any, ...]]]:
        """Count it."""
        after = Total(state.events + 1, state.cents + row.amount_cents)
        return after, [(row.user_id, row.at, row.number, after.events, after.cents)]


class Open(NamedTuple):
    """The window that a key is in."""

    begins_at: datetime | None
    events: int
    cents: int


class Windows(Fold[Open]):
    """A row for each window and key that has rows, when the window is over."""

    key, time, order_by = ("user_id",), "at", ("number",)
    state, output, horizon = "begins_at TIMESTAMP, events BIGINT, cents BIGINT", WINDOWS, "365 days"

    def zero(self) -> Open:
        """No window is open."""
        return Open(None, 0, 0)

    def step(self, state: Open, row: Any) -> tuple[Open, Iterable[tuple[Any, ...]]]:
        """Count it; a window that was open before is over, and its timer has closed it."""
        begins = row.at - (row.at - _EPOCH) % WINDOW if state.begins_at is None else state.begins_at
        return Open(begins, state.events + 1, state.cents + row.amount_cents), ()

    def due(self, state: Open) -> datetime | None:
        """When the window is over."""
        return None if state.begins_at is None else state.begins_at + WINDOW

    def on_time(
        self, key: tuple[Any, ...], state: Open, time: datetime
    ) -> tuple[Open, Iterable[tuple[Any, ...]]]:
        """Give the window."""
        del time
        return self.zero(), [(key[0], state.begins_at, state.events, state.cents)]


def running(events: DataFrame) -> DataFrame:
    """As a fold."""
    return fold(events, Running())


def windows(events: DataFrame) -> DataFrame:
    """As a fold."""
    return fold(events, Windows())


class PerKey(StatefulProcessor):
    """The running totals with Spark's state, a state a key: one read and one write of it a key and batch."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        """Declare the state."""
        self._total = handle.getValueState("total", "events BIGINT, cents BIGINT")

    def handleInputRows(self, key: Any, rows: Iterator[Any], timerValues: Any) -> Iterator[Row]:  # noqa: N802, N803
        """A key's rows of a batch."""
        del timerValues
        events, cents = self._total.get() or (0, 0)
        for row in rows:
            events, cents = events + 1, cents + row.amount_cents
            yield Row(user_id=key[0], at=row.at, number=row.number, events=events, total_cents=cents)
        self._total.update((events, cents))

    def close(self) -> None:
        """Nothing to close."""


def running_by_key(events: DataFrame) -> DataFrame:
    """With ``transformWithState``, as Spark's guide has it."""
    return events.groupBy("user_id").transformWithState(PerKey(), RUNNING, "append", "none")


def running_in_pandas(events: DataFrame) -> DataFrame:
    """With ``applyInPandas``, a key's rows at once."""

    def totals(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows.sort_values(["at", "number"])
        rows["events"] = range(1, len(rows) + 1)
        rows["total_cents"] = rows["amount_cents"].cumsum()
        return rows[["user_id", "at", "number", "events", "total_cents"]]

    return events.groupBy("user_id").applyInPandas(totals, RUNNING)


def running_by_window_function(events: DataFrame) -> DataFrame:
    """With a window function in the JVM."""
    so_far = Window.partitionBy("user_id").orderBy("at", "number").rowsBetween(Window.unboundedPreceding, 0)
    return events.select(
        "user_id",
        "at",
        "number",
        F.count(F.lit(1)).over(so_far).alias("events"),
        F.sum("amount_cents").over(so_far).alias("total_cents"),
    )


def windows_built_in(events: DataFrame) -> DataFrame:
    """With Spark's own aggregation by windows."""
    window = F.window("at", f"{WINDOW // timedelta(minutes=1)} minutes")
    return (
        events.groupBy(window, "user_id")
        .agg(F.count(F.lit(1)).alias("events"), F.sum("amount_cents").alias("total_cents"))
        .select("user_id", F.col("window.start").alias("begins_at"), "events", "total_cents")
    )
