"""Avro values with the header of a schema registry: a zero byte, four bytes of the schema's id, then the record.

Each value is decoded with the schema that it was written with, into the pipeline's own, by the rules of Avro: fields that
the writer did not have take their default, fields that the pipeline does not name are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import AnalysisException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.avro.functions import from_avro

from tidemill.errors import ConfigError
from tidemill.ledger.schemas import Writer, Writers

UNKNOWN = ("schema id ", " is not in the registry")
"""What stands before and after the id where that is the reason."""

_MARK = T.StructField("_tidemill_read", T.BooleanType())
"""A field that no writer has, with a default: null after all in a record that could not be decoded."""


def row_schema(spark: SparkSession, text: str, name: str) -> T.StructType:
    """The columns of a record of the pipeline's schema. Raises :class:`ConfigError` when it is not one of a record."""
    try:
        body = json.loads(text)
        if not isinstance(body, dict) or body.get("type") != "record" or not body.get("fields"):
            raise ValueError("it is not the schema of a record with fields")  # noqa: TRY301  explained below
        _parse(spark, text)
        empty = spark.createDataFrame([], "value BINARY")
        kind = empty.select(from_avro("value", text)).schema.fields[0].dataType
        assert isinstance(kind, T.StructType)  # noqa: S101  it is a record's
    except (ValueError, AnalysisException, Py4JJavaError) as error:
        raise ConfigError(
            f"the Avro schema of {name} cannot be used: {_first(error)}",
            next_step='write one of a record, {"type": "record", "name": ..., "fields": [...]}, or the path of such a file',
            field="source.kafka.schema",
        ) from None
    return T.StructType([T.StructField(f.name, f.dataType, nullable=True) for f in kind.fields])


@dataclass(frozen=True, slots=True)
class Decoder:
    """How values become records of the schema ``text``: what decodes each id, and why the others cannot be decoded."""

    text: str
    row: T.StructType
    fit: Mapping[int, str]
    unfit: Mapping[int, str]

    def record(self, value: str) -> Column:
        """The bytes of a column as a record with a last field that is null where they are none. No bytes make it fail."""
        record, payload = (
            F.lit(None).cast(T.StructType([*self.row.fields, _MARK])),
            F.expr(f"substring({value}, 6)"),
        )
        options = {"avroSchema": _marked(self.text), "mode": "PERMISSIVE"}
        for each, written in self.fit.items():
            record = F.when(schema_id(value) == each, from_avro(payload, written, options)).otherwise(record)
        return record

    def reason(self, record: str, number: str, value: str) -> Column:
        """Why there is no ``record`` of the schema ``number`` in ``value``; null where there is one."""
        at = F.col(number)
        why = F.when(F.col(value).isNull(), F.lit("no value")).when(
            at.isNull(), F.lit("no header of a schema registry")
        )
        for each, wrong in self.unfit.items():
            why = why.when(at == each, F.lit(f"schema id {each} cannot be read: {wrong}"))
        why = why.when(self.unknown(number).isNotNull(), F.concat(F.lit(UNKNOWN[0]), at, F.lit(UNKNOWN[1])))
        return why.when(F.col(record)[_MARK.name].isNull(), F.concat(F.lit("not a record of schema id "), at))

    def unknown(self, number: str) -> Column:
        """The ids in a column for which there is no schema; null for the others."""
        known = sorted({*self.fit, *self.unfit})
        return F.when(~F.col(number).isin(known), F.col(number)) if known else F.col(number)


def decoder(spark: SparkSession, text: str, writers: Writers, name: str) -> Decoder:
    """How to decode values of these writers. Raises as :func:`row_schema`."""
    row = row_schema(spark, text, name)
    wrong = {each: _unfit(spark, text, writer) for each, writer in sorted(writers.items())}
    fit = {each: writers[each].schema for each, problem in wrong.items() if not problem}
    return Decoder(text, row, fit, {each: problem for each, problem in wrong.items() if problem})


def schema_id(value: str) -> Column:
    """The id in the header of the bytes in a column; null where there is no header."""
    framed = F.expr(f"length({value}) >= 5 AND substring({value}, 1, 1) = X'00'")
    return F.when(framed, F.conv(F.hex(F.substring(value, 2, 4)), 16, 10).cast("bigint"))


def _marked(text: str) -> str:
    body: dict[str, Any] = json.loads(text)
    return json.dumps(
        {**body, "fields": [*body["fields"], {"name": _MARK.name, "type": "boolean", "default": True}]}
    )


def _unfit(spark: SparkSession, text: str, writer: Writer) -> str:
    """Why records of a writer cannot be read into the pipeline's schema; empty when they can."""
    if writer.unfit:
        return writer.unfit
    jvm: Any = spark._jvm  # noqa: SLF001  Spark has no Python API for Avro's rules
    try:
        reader, written = _parse(spark, text), _parse(spark, writer.schema)
        found = jvm.org.apache.avro.SchemaCompatibility.checkReaderWriterCompatibility(reader, written)
        problems = list(found.getResult().getIncompatibilities())
    except Py4JJavaError as error:
        return _first(error)
    return f"{problems[0].getMessage()} at {problems[0].getLocation()}" if problems else ""


def _parse(spark: SparkSession, text: str) -> Any:
    jvm: Any = spark._jvm  # noqa: SLF001  as above
    return jvm.org.apache.avro.Schema.Parser().parse(text)


def _first(error: Exception) -> str:
    said = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
    return (str(said).splitlines() or [type(error).__name__])[0][:300]
