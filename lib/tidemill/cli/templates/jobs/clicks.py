"""Transforms of the clicks: functions from a frame of events to a frame of the table's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def clicks(events: DataFrame) -> DataFrame:
    """The clicks of people: robots left out, pages without their query.

    The same function runs on the live stream and in a backfill: it may depend on its rows only, not on the
    clock, on chance or on the order in which rows arrive.
    """
    people = events.where(~F.lower("agent").contains("bot"))
    return people.select("at", "user", F.split("page", r"\?")[0].alias("page"))
