"""What is remembered of a command, so that it has one outcome: 16 bytes, made of its aggregate and its id."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F

MARK = "mark"
"""The column of a frame of commands. Among a billion marks, two are equal once in 10^20 times."""


def mark(aggregate: Column, values: Mapping[str, Column]) -> Column:
    """What tells a command from others. ``values``: columns of a command: its id and subject, and all of it where it has no id.

    Made from the command, and again from what became of it, it is the same.
    """
    subject, kind, data = (F.coalesce(values[name], F.lit("")) for name in ("subject", "type", "data"))
    whole = _text(F.lit("no id"), kind, F.unix_micros(values["time"]).cast("string"), data)
    told = F.when(F.length(values["id"]) > 0, _text(F.lit("id"), values["id"])).otherwise(whole)
    return _short(F.concat(_text(aggregate, subject), told))


def mark_of_event() -> Column:
    """The mark of the command of an event store's row: it had an id, else there were no event."""
    return _short(
        F.concat(_text(F.col("aggregate"), F.col("subject")), _text(F.lit("id"), F.col("causationid")))
    )


def _text(*parts: Column) -> Column:
    """Parts as one text: others, another text."""
    return F.concat(*(each for part in parts for each in (F.length(part).cast("string"), F.lit(":"), part)))


def _short(text: Column) -> Column:
    return F.substring(F.unhex(F.sha2(text, 256)), 1, 16)
