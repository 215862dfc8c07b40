"""Events as parquet files for the backfill benchmarks, made by Spark itself."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from bench.events import START

DAYS = 10
BEGIN = START.replace(hour=0)


def write_source(spark: SparkSession, folder: Path, rows: int) -> None:
    """Write ``rows`` events over ``DAYS`` days from ``BEGIN``, with the columns of :data:`bench.events.SCHEMA`."""
    number = F.col("number")
    at = F.timestamp_micros(
        F.lit(int(BEGIN.timestamp() * 1_000_000)) + number * (DAYS * 86_400_000_000 // rows)
    )
    noise = F.pmod(F.xxhash64("number"), F.lit(1 << 40))
    (
        spark.range(0, rows, numPartitions=2 * DAYS)
        .withColumnRenamed("id", "number")
        .select(
            F.hex(noise).alias("id"),
            at.alias("at"),
            (noise % 50_000).cast("int").alias("user_id"),
            F.concat(F.lit("/item/"), noise % 5_000).alias("page"),
            F.element_at(
                F.array(*map(F.lit, ("DE", "FR", "GB", "JP", "US"))), (noise % 5 + 1).cast("int")
            ).alias("country"),
            (noise % 49_999 + 1).alias("amount_cents"),
            (noise % 8 + 1).cast("int").alias("quantity"),
            F.concat(F.lit("agent/"), noise % 7).alias("agent"),
            F.to_date(at).cast("string").alias("day"),
        )
        .write.parquet(str(folder))
    )
