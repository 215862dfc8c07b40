"""Whether a suite fits the rows that it is for: found out before any of them is read.

Expectations are tried on a few made-up rows of the same schema, chosen to be awkward: what Spark refuses or stumbles over
there (a regular expression that Java does not know, a text that is compared with a number) is an error of the suite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs
from tidemill.model.row_condition import Condition, parse, sql_in
from tidemill.quality.aggregates import observed
from tidemill.quality.columns import columns_of, known_types
from tidemill.quality.named import check_columns, misfit
from tidemill.quality.predicates import condition, number_of
from tidemill.quality.probes import crossed, plain
from tidemill.quality.rules import Rules
from tidemill.quality.strftime import problem


def check(suite: Suite, schema: T.StructType, spark: SparkSession) -> None:
    """Raise :class:`ConfigError`, with file and line, for the first expectation that rows of ``schema`` cannot be asked."""
    check_columns(suite, schema)
    for each in suite.expectations:
        _check_texts(each, spark)
        _check_types(each)
        _check_values(each, schema)
    schema = schema.toNullable()
    probes = spark.createDataFrame(plain(schema), schema)
    _try_each(suite.that_run(Runs.ROW), probes, _rows, _CORRECT)
    _try_each(suite.that_run(Runs.BATCH), probes, _aggregates, _CORRECT)
    named = {
        each.id: frozenset(_named(each, probes))
        for each in (*suite.that_run(Runs.ROW), *suite.that_run(Runs.BATCH))
        if any(sql_in(_parsed(each)))
    }
    if any(named.values()):
        probes = spark.createDataFrame(crossed(schema, {*named.values()}), schema)
        asked = [each for each in suite.expectations if each.id in named]
        _try_each(asked, probes, _conditions, _WHATEVER_COMES)


_Attempt = Callable[[Sequence[Expectation], DataFrame], DataFrame]

_CORRECT = "correct it, or give the column another type in the schema"
_WHATEVER_COMES = (
    "one record with such values would end the stream: let the condition be null there, as get(), try_subtract() and the "
    "other try_ functions of SQL are"
)


def _try_each(
    expectations: Sequence[Expectation], probes: DataFrame, attempt: _Attempt, next_step: str
) -> None:
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
                raise misfit(each, _first_line(error), next_step) from None
        raise


_TROUBLE = (PySparkException, Py4JJavaError)


def _check_texts(each: Expectation, spark: SparkSession) -> None:
    form = each.kwargs.get("strftime_format")
    if form is not None and (trouble := problem(form)):
        raise misfit(each, f"no text can be read with {form!r}: {trouble}", "see Python's datetime.strptime")
    one = each.kwargs.get("regex")
    jvm: Any = spark._jvm  # noqa: SLF001  Spark's own engine for regular expressions is Java's
    for expression in [one] if one is not None else each.kwargs.get("regex_list", []):
        try:
            jvm.java.util.regex.Pattern.compile(expression)
        except _TROUBLE as error:
            raise misfit(
                each,
                f"not a regular expression of Java's: {_first_line(error)} of {expression!r}",
                "see java.util.regex.Pattern",
            ) from None


def _check_types(each: Expectation) -> None:
    one = each.kwargs.get("type_")
    names = [one] if one is not None else each.kwargs.get("type_list", [])
    if names and not known_types(names):
        raise misfit(
            each,
            f"no type of Spark's is called {' or '.join(names)}",
            "IntegerType, say; see pyspark.sql.types",
        )


def _check_values(each: Expectation, schema: T.StructType) -> None:
    """Values that YAML has read as something else than the texts they stand for."""
    kinds = columns_of(schema)
    for value, name in _values(each) if each.runs is Runs.ROW else ():
        if isinstance(kinds.get(name), T.StringType) and isinstance(value, (bool, int, float, date)):
            what = (
                "NO and OFF as false, YES and ON as true"
                if isinstance(value, bool)
                else "it as what it looks like"
            )
            raise misfit(
                each,
                f"{name!r} is a column of texts, and {json.dumps(value, default=str)} is none",
                f"write the text in quotes; without them YAML reads {what}",
            )


def _values(each: Expectation) -> Iterator[tuple[Any, str]]:
    """The values that an expectation compares a column with, each with the column's name."""
    yield from ((value, each.kwargs["column"]) for value in each.kwargs.get("value_set") or ())
    for pair in each.kwargs.get("value_pairs_set") or ():
        yield from zip(pair, (each.kwargs["column_A"], each.kwargs["column_B"]), strict=True)


def _rows(expectations: Sequence[Expectation], probes: DataFrame) -> DataFrame:
    rules = Rules.of(_suite(expectations), probes.schema)
    return _observed(rules.marked(probes), rules.counts())


def _aggregates(expectations: Sequence[Expectation], probes: DataFrame) -> DataFrame:
    return _observed(probes, observed(_suite(expectations), probes.schema))


def _conditions(expectations: Sequence[Expectation], probes: DataFrame) -> DataFrame:
    found = [condition(each.kwargs, probes.schema) for each in expectations]
    return _observed(probes, [number_of(each) for each in found if each is not None])


def _observed(probes: DataFrame, columns: Sequence[Column]) -> DataFrame:
    # As in the write: not all that can be selected, or counted, can be observed.
    named = [column.alias(str(number)) for number, column in enumerate(columns)]
    return probes.observe("probes", *named).select(F.lit(1))


def _suite(expectations: Sequence[Expectation]) -> Suite:
    return Suite(name="probe", expectations=tuple(expectations))


def _parsed(each: Expectation) -> Condition | None:
    return parse(each.kwargs.get("row_condition"), each.kwargs.get("condition_parser"))


def _named(each: Expectation, probes: DataFrame) -> Iterator[str]:
    """The columns that an expectation's row condition names, as Spark reads it."""
    column = condition(each.kwargs, probes.schema)
    if column is not None:
        asked = probes.select(column)._jdf.queryExecution().analyzed()  # noqa: SLF001  pyspark does not say
        names = asked.references().iterator()
        while names.hasNext():
            yield str(names.next().name())


def _first_line(error: Py4JJavaError | PySparkException) -> str:
    if isinstance(error, Py4JJavaError):
        return str(error.java_exception.getMessage()).strip().splitlines()[0]
    return str(error).strip().splitlines()[0]
