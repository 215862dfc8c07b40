"""What the law's example pipelines do; each takes streams and batches alike.

``code`` is the version of a pipeline's code: version ``a`` and ``b`` keep other rows and state of the same shape, so
that a history can change the code under a running state.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.folds import Fold, fold
from tidemill.transforms import dedup as first_of_chain


def keep_a(events: DataFrame) -> DataFrame:
    return events.where("value % 3 != 0")


def keep_b(events: DataFrame) -> DataFrame:
    return events.where("value % 4 != 1")


def mapped(events: DataFrame) -> DataFrame:
    return events.select("id", "key", (F.col("value") * 2 + 1).alias("value"), "at")


def tumbling(events: DataFrame) -> DataFrame:
    return _counted(events, F.window("at", "1 hour"))


def sliding(events: DataFrame) -> DataFrame:
    return _counted(events, F.window("at", "3 hours", "1 hour"))


def _counted(events: DataFrame, window: Column) -> DataFrame:
    counted = events.groupBy(window.alias("w"), "key").agg(
        F.count(F.lit(1)).alias("n"), F.sum("value").alias("total"), F.max("value").alias("top")
    )
    return counted.select(F.col("w.start").alias("start"), "key", "n", "total", "top")


def sessions(events: DataFrame) -> DataFrame:
    # Named, as people name it: the engine must know a session window by more than its column's name.
    session = F.session_window("at", "20 minutes").alias("s")
    counted = events.groupBy("key", session).agg(F.count(F.lit(1)).alias("n"), F.sum("value").alias("total"))
    return counted.select(F.col("s.start").alias("start"), F.col("s.end").alias("end"), "key", "n", "total")


def dedup(events: DataFrame) -> DataFrame:
    return first_of_chain(events, ["key"], "at", "20 minutes")


def join_a(events: DataFrame, others: DataFrame) -> DataFrame:
    return _joined(keep_a(events), others)


def join_b(events: DataFrame, others: DataFrame) -> DataFrame:
    return _joined(keep_b(events), others)


def _joined(events: DataFrame, others: DataFrame) -> DataFrame:
    left = events.alias("l")
    right = others.alias("r")
    near = F.expr("l.key = r.key and r.at >= l.at - interval 1 hour and r.at <= l.at + interval 30 minutes")
    return left.join(right, near).select(
        F.col("l.id").alias("id"), F.col("r.id").alias("other"), F.col("l.key").alias("key"),
        F.col("l.value").alias("value"), F.col("l.at").alias("at"),
    )  # fmt: skip


def named_a(events: DataFrame, names: DataFrame) -> DataFrame:
    return _named(keep_a(events), names)


def named_b(events: DataFrame, names: DataFrame) -> DataFrame:
    return _named(keep_b(events), names)


def _named(events: DataFrame, names: DataFrame) -> DataFrame:
    return events.join(names, "key").select("id", "name", "value", "at")


def both_a(events: DataFrame, others: DataFrame) -> DataFrame:
    return keep_a(events).unionByName(others)


def both_b(events: DataFrame, others: DataFrame) -> DataFrame:
    return keep_b(events).unionByName(others)


class Newest(NamedTuple):
    """A key's newest event."""

    at: datetime | None
    value: int | None
    spoken: bool


class Gaps(Fold[Newest]):
    """How a key's value changes from event to event; and when it has been silent for 90 minutes."""

    key, time, order_by = ("key",), "at", ("id", "value")
    state = "at TIMESTAMP, value BIGINT, spoken BOOLEAN"
    output = "id STRING, key STRING, value BIGINT, at TIMESTAMP"
    horizon = "2 hours"

    def zero(self) -> Newest:
        return Newest(None, None, spoken=False)

    def step(self, state: Newest, row: Any) -> tuple[Newest, list[tuple[Any, ...]]]:
        change = None if state.value is None else row.value - state.value
        return Newest(row.at, row.value, spoken=False), [(row.id, row.key, change, row.at)]

    def due(self, state: Newest) -> datetime | None:
        return None if state.at is None or state.spoken else state.at + timedelta(minutes=90)

    def on_time(
        self, key: tuple[Any, ...], state: Newest, time: datetime
    ) -> tuple[Newest, list[tuple[Any, ...]]]:
        return state._replace(spoken=True), [("silent", key[0], state.value, time)]


def gaps(events: DataFrame) -> DataFrame:
    return fold(events, Gaps())


class Total(NamedTuple):
    """A key's sum, and when it is told if nothing happens."""

    total: int
    asked: datetime | None


class Totals(Fold[Total]):
    """The sum of a key's values, for ever; told with each event, and when the key has been silent for 90 minutes."""

    key, time, order_by = ("key",), "at", ("id", "value")
    state = "total BIGINT, asked TIMESTAMP"
    output = "id STRING, key STRING, value BIGINT, at TIMESTAMP"

    def zero(self) -> Total:
        return Total(0, None)

    def step(self, state: Total, row: Any) -> tuple[Total, list[tuple[Any, ...]]]:
        total = state.total + row.value
        return Total(total, row.at + timedelta(minutes=90)), [(row.id, row.key, total, row.at)]

    def due(self, state: Total) -> datetime | None:
        return state.asked

    def on_time(
        self, key: tuple[Any, ...], state: Total, time: datetime
    ) -> tuple[Total, list[tuple[Any, ...]]]:
        return state._replace(asked=None), [("silent", key[0], state.total, time)]


class Last(Totals):
    """The same of a key's last value alone: its states soon agree again."""

    def step(self, state: Total, row: Any) -> tuple[Total, list[tuple[Any, ...]]]:
        change = row.value - state.total
        return Total(row.value, row.at + timedelta(minutes=90)), [(row.id, row.key, change, row.at)]


def totals(events: DataFrame) -> DataFrame:
    return fold(events, Totals())


def last(events: DataFrame) -> DataFrame:
    return fold(events, Last())
