"""Whether a suite fits the rows that it is for: found out before any of them is read.

Expectations are tried on a few made-up rows of the same schema, chosen to be awkward: what Spark refuses or stumbles over
there (a regular expression that Java does not know, a text that is compared with a number) is an error of the suite.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from tidemill.errors import ConfigError
from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs
from tidemill.quality.aggregates import observed
from tidemill.quality.columns import columns_of, known_types
from tidemill.quality.predicates import compiled
from tidemill.quality.strftime import problem

_PROBES: dict[type[T.DataType], list[Any]] = {
    T.StringType: ["", "x", "2024-02-29", "日本", "-0", "{"],
    T.BooleanType: [True, False],
    T.ByteType: [-(2**7), 0, 2**7 - 1],
    T.ShortType: [-(2**15), 0, 2**15 - 1],
    T.IntegerType: [-(2**31), 0, 2**31 - 1],
    T.LongType: [-(2**63), 0, 2**63 - 1],
    T.FloatType: [float("nan"), 0.0, float("-inf")],
    T.DoubleType: [float("nan"), 0.0, float("-inf")],
    T.DateType: [date(1, 1, 1), date(9999, 12, 31)],
    T.TimestampType: [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)],
}


def check(suite: Suite, schema: T.StructType, spark: SparkSession) -> None:
    """Raise :class:`ConfigError`, with file and line, for the first expectation that rows of ``schema`` cannot be asked."""
    for each in suite.expectations:
        _check_columns(each, schema)
        _check_texts(each, spark)
        _check_types(each)
    probes = spark.createDataFrame(_probe_rows(schema), schema)
    _try_each(suite.that_run(Runs.ROW), probes, _rows)
    _try_each(suite.that_run(Runs.BATCH), probes, _aggregates)


_Attempt = Callable[[Sequence[Expectation], DataFrame], DataFrame]


def _try_each(expectations: Sequence[Expectation], probes: DataFrame, attempt: _Attempt) -> None:
    if not expectations:
        return
    try:
        attempt(expectations, probes).collect()
    except _TROUBLE:
        # One of them; which, is worth a few more jobs.
        for each in expectations:
            try:
                attempt([each], probes).collect()
            except _TROUBLE as error:
                raise _error(
                    each, _first_line(error), "correct it, or give the column another type in the schema"
                ) from None
        raise


_TROUBLE = (PySparkException, Py4JJavaError)


def _check_texts(each: Expectation, spark: SparkSession) -> None:
    form = each.kwargs.get("strftime_format")
    if form is not None and (trouble := problem(form)):
        raise _error(each, f"no text can be read with {form!r}: {trouble}", "see Python's datetime.strptime")
    one = each.kwargs.get("regex")
    jvm: Any = spark._jvm  # noqa: SLF001  Spark's own engine for regular expressions is Java's
    for expression in [one] if one is not None else each.kwargs.get("regex_list", []):
        try:
            jvm.java.util.regex.Pattern.compile(expression)
        except _TROUBLE as error:
            raise _error(
                each,
                f"not a regular expression of Java's: {_first_line(error)} of {expression!r}",
                "see java.util.regex.Pattern",
            ) from None


def _check_types(each: Expectation) -> None:
    one = each.kwargs.get("type_")
    names = [one] if one is not None else each.kwargs.get("type_list", [])
    if names and not known_types(names):
        raise _error(
            each,
            f"no type of Spark's is called {' or '.join(names)}",
            "IntegerType, say; see pyspark.sql.types",
        )


def _rows(expectations: Sequence[Expectation], probes: DataFrame) -> DataFrame:
    parts = [compiled(each, probes.schema) for each in expectations]
    return probes.select(*[part.unexpected.alias(str(i)) for i, part in enumerate(parts)])


def _aggregates(expectations: Sequence[Expectation], probes: DataFrame) -> DataFrame:
    return probes.agg(*observed(Suite(name="probe", expectations=tuple(expectations)), probes.schema))


def _check_columns(each: Expectation, schema: T.StructType) -> None:
    for name in each.columns:
        if each.type != "expect_column_to_exist" and name not in columns_of(schema):
            near = difflib.get_close_matches(name, schema.names, n=1)
            raise _error(
                each,
                f"there is no column {name!r}",
                f"did you mean {near[0]!r}?" if near else f"the columns are {', '.join(schema.names)}",
            )
        if each.runs is Runs.FILES and name not in schema.names:
            raise _error(
                each, f"{name!r} is a field of a struct", "with within:, a key's columns are whole ones"
            )


def _probe_rows(schema: T.StructType) -> list[tuple[Any, ...]]:
    columns = [_probes(field.dataType) for field in schema.fields]
    return [tuple(None for _ in columns), *zip_longest(*columns)]


def _probes(kind: T.DataType) -> list[Any]:
    if isinstance(kind, T.StructType):
        return _probe_rows(kind)
    if isinstance(kind, T.DecimalType):
        most = Decimal(10) ** (kind.precision - kind.scale) - Decimal(1).scaleb(-kind.scale)
        return [-most, Decimal(0), most]
    return _PROBES.get(type(kind), [None])


def _first_line(error: Py4JJavaError | PySparkException) -> str:
    if isinstance(error, Py4JJavaError):
        return str(error.java_exception.getMessage()).strip().splitlines()[0]
    return (error.getMessage() or str(error)).strip().splitlines()[0]


def _error(each: Expectation, message: str, next_step: str) -> ConfigError:
    file, _, line = each.where.rpartition(":")
    return ConfigError(
        f"{each.where}: {each.id}: {message}", next_step=next_step, file=file, line=line, expectation=each.id
    )
