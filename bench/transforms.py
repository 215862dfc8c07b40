"""The transforms that both sides of a benchmark run."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def sales(events: DataFrame) -> DataFrame:
    """A row in, at most a row out: filtered, computed, renamed."""
    return dated_sales(events).drop("day")


def dated_sales(events: DataFrame) -> DataFrame:
    """As :func:`sales`, with the day as a text."""
    return events.where("quantity > 1").select(
        "id",
        "at",
        "user_id",
        F.upper("page").alias("page"),
        "country",
        "agent",
        (F.col("amount_cents") * F.col("quantity")).alias("total_cents"),
        F.when(F.col("amount_cents") >= 25_000, "large").otherwise("small").alias("size"),
        "day",
    )


def sales_by_user(events: DataFrame) -> DataFrame:
    """Windows of fifteen minutes by user. Whole numbers, so that sums do not depend on their order."""
    return (
        events.groupBy(F.window("at", "15 minutes"), "user_id")
        .agg(
            F.count(F.lit(1)).alias("events"),
            F.sum("amount_cents").alias("total_cents"),
            F.max("quantity").alias("most"),
        )
        .select(F.col("window.start").alias("begins_at"), "user_id", "events", "total_cents", "most")
    )
