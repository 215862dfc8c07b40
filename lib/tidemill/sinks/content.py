"""What rows are, whatever their order: row hashes, content hashes, and differences as multisets.

A row's identity is two 64-bit hashes of all its columns (xxHash64 with two seeds): 128 bits, so that a
billion rows meet by chance with probability below 1e-20. An interval's content is the count and the
sums of both hashes modulo 2^64; sums do not depend on order, and equal rows count as often as they occur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile
from tidemill.sinks.stage import LABEL, label_column
from tidemill.sinks.tables import Table

_MODULUS = 1 << 64
SAMPLES = 20


@dataclass(frozen=True, slots=True)
class Content:
    """An interval's rows and their content hash."""

    rows: int
    hash: str


@dataclass(frozen=True, slots=True)
class Difference:
    """How staged rows differ from the table's, by interval, with a few of the rows.

    ``added``/``removed`` count rows of the multisets; ``changed`` counts keys that stand on both sides.
    """

    added: Mapping[str, int]
    removed: Mapping[str, int]
    changed: Mapping[str, int]
    samples: tuple[Mapping[str, Any], ...]


def row_hashes(fields: Sequence[T.StructField]) -> tuple[Column, Column]:
    """Two independent hashes of a row with these columns."""
    columns = [part for field in fields for part in _parts(F.col(f"`{field.name}`"), field.dataType)]
    return F.xxhash64(*columns), F.xxhash64(F.lit(1), *columns)


def _parts(column: Column, kind: T.DataType) -> list[Column]:
    """Columns whose hash tells one value of ``column`` from others.

    Spark's hash passes over nulls, wherever they stand: (null, 1) and (1, null) would be one row. So where a null is counts
    as a value. Spark refuses to hash maps, whose order means nothing: their entries' hashes are sorted.
    """
    null = column.isNull()
    if isinstance(kind, T.StructType):
        inner = (_parts(column.getField(field.name), field.dataType) for field in kind.fields)
        return [null, *(part for parts in inner for part in parts)]
    if isinstance(kind, T.ArrayType):
        return [null, F.transform(column, lambda each: F.xxhash64(*_parts(each, kind.elementType)))]
    if isinstance(kind, T.MapType):
        entry = T.StructType([T.StructField("key", kind.keyType), T.StructField("value", kind.valueType)])
        hashed = F.transform(F.map_entries(column), lambda each: F.xxhash64(*_parts(each, entry)))
        return [null, F.array_sort(hashed)]
    return [null, column]


def read_files(
    spark: SparkSession, pipeline: Pipeline, table: Table, files: Sequence[DataFile], schema: T.StructType
) -> DataFrame:
    """The rows of data files, each with the label of its interval; ``schema`` is the output's own."""
    if not files:
        return spark.createDataFrame(
            [], schema.add(LABEL, T.StringType()) if LABEL not in schema.names else schema
        )
    return table.read(spark, files, schema).withColumn(LABEL, label_column(pipeline))


def contents(frame: DataFrame, fields: Sequence[T.StructField]) -> dict[str, Content]:
    """The content of each interval of a labelled frame. One Spark job."""
    first, second = row_hashes(fields)
    rows = (
        frame.groupBy(LABEL)
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.sum(first.cast("decimal(20,0)")).alias("first"),
            F.sum(second.cast("decimal(20,0)")).alias("second"),
        )
        .collect()
    )
    return {row[LABEL]: Content(row["rows"], _text(row["rows"], row["first"], row["second"])) for row in rows}


def _text(rows: int, first: Any, second: Any) -> str:
    return f"{rows:x}-{int(first) % _MODULUS:016x}{int(second) % _MODULUS:016x}"


def difference(
    staged: DataFrame, stands: DataFrame, pipeline: Pipeline, fields: Sequence[T.StructField]
) -> Difference:
    """Compare two labelled frames as multisets of rows. Two or three Spark jobs over what differs."""
    first, second = row_hashes(fields)
    both = staged.withColumn("_tidemill_side", F.lit(1)).unionByName(
        stands.withColumn("_tidemill_side", F.lit(-1))
    )
    apart = (
        both.withColumns({"_tidemill_first": first, "_tidemill_second": second})
        .groupBy(LABEL, "_tidemill_first", "_tidemill_second")
        .agg(
            F.sum("_tidemill_side").alias("n"),
            F.first(F.struct(*[F.col(f"`{f.name}`") for f in fields])).alias("row"),
        )
        .where("n != 0")
        .persist()
    )
    try:
        counts = (
            apart.groupBy(LABEL)
            .agg(
                F.sum(F.greatest("n", F.lit(0))).alias("added"),
                F.sum(F.greatest(-F.col("n"), F.lit(0))).alias("removed"),
            )
            .collect()
        )
        changed = _changed(apart, pipeline)
        order = [F.col(LABEL), *[F.col(f"row.`{k}`") for k in pipeline.table.key], F.col("n")]
        samples = (
            apart.orderBy(*order).limit(SAMPLES).select(LABEL, "n", F.to_json("row").alias("row")).collect()
        )
    finally:
        apart.unpersist()
    return Difference(
        added={row[LABEL]: row["added"] for row in counts if row["added"]},
        removed={row[LABEL]: row["removed"] for row in counts if row["removed"]},
        changed=changed,
        samples=tuple({"interval": r[LABEL], "rows": r["n"], "row": r["row"]} for r in samples),
    )


def _changed(apart: DataFrame, pipeline: Pipeline) -> dict[str, int]:
    if not pipeline.table.key:
        return {}
    keys = [F.col(f"row.`{key}`").alias(key) for key in pipeline.table.key]
    by_key = apart.groupBy(F.col(LABEL), *keys).agg(F.min("n").alias("least"), F.max("n").alias("most"))
    rows = by_key.where("least < 0 and most > 0").groupBy(LABEL).count().collect()
    return {row[LABEL]: row["count"] for row in rows}
