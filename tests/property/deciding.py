"""What the law's event store decides, and a projection of it; each in a version ``a`` and ``b``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.eventsourcing import Command, Decider, Domain, Event, Rejected, State


class Note(Command):
    value: int


class Noted(Event):
    value: int
    total: int


class Odd(Event):
    pass


class Total(State):
    total: int = 0


class Book(Decider[Total]):
    name, commands, events = "book", (Note,), (Noted, Odd)

    def __init__(self, code: str) -> None:
        self.code = code

    def initial(self) -> Total:
        return Total()

    def decide(self, state: Total, command: Any) -> Iterable[Event] | Rejected:
        wanted = command.value % 3 != 0 if self.code == "a" else command.value % 4 != 1
        if not wanted:
            return Rejected(f"not by {self.code}")
        noted = Noted(value=command.value, total=state.total + command.value)
        return [noted, Odd()] if command.value % 2 else [noted]

    def evolve(self, state: Total, event: Any) -> Total:
        return Total(total=event.total) if isinstance(event, Noted) else state


A, B = (Domain("/law", Book(code)) for code in "ab")


def asked(events: DataFrame) -> DataFrame:
    data = F.to_json(F.struct("value"))
    return events.select(
        "id",
        F.lit("book.Note").alias("type"),
        F.col("key").alias("subject"),
        F.col("at").alias("time"),
        data.alias("data"),
    )


def shown_a(events: DataFrame) -> DataFrame:
    return _shown(events.where("version % 2 = 1"), 2)


def shown_b(events: DataFrame) -> DataFrame:
    return _shown(events, 3)


def _shown(events: DataFrame, factor: int) -> DataFrame:
    return events.select("id", "causationid", (F.col("version") * factor).alias("n"), "time")
