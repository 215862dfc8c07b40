"""Whether the columns that a suite names are there: answered by the schema, before any row is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from pyspark.sql import types as T

from tidemill.errors import ConfigError
from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs
from tidemill.model.row_condition import columns, parse
from tidemill.quality.columns import columns_of

_NESTED = (T.ArrayType, T.MapType, T.StructType, T.VariantType)


def check_columns(suite: Suite, schema: T.StructType) -> None:
    """Raise :class:`ConfigError`, with file and line, for the first column of a suite that rows of ``schema`` do not have.

    >>> check_columns(Suite(name="none"), T.StructType())
    """
    known = columns_of(schema)
    for each in suite.expectations:
        asked = each.columns if each.type != "expect_column_to_exist" else ()
        for name in (*asked, *_in_condition(each)):
            if name not in known:
                raise misfit(each, f"there is no column {name!r}", _meant(name, schema, known))
        for name in each.columns if each.runs is Runs.FILES else ():
            _check_key(each, name, schema)


def _in_condition(each: Expectation) -> Iterator[str]:
    """The columns of a row condition that tidemill compiles; those of SQL are left to Spark."""
    if each.runs in {Runs.ROW, Runs.BATCH}:
        yield from columns(parse(each.kwargs.get("row_condition"), each.kwargs.get("condition_parser")))


def misfit(each: Expectation, message: str, next_step: str) -> ConfigError:
    """The error of an expectation that its rows cannot be asked; it names file and line."""
    file, _, line = each.where.rpartition(":")
    return ConfigError(
        f"{each.where}: {each.id}: {message}", next_step=next_step, file=file, line=line, expectation=each.id
    )


def _meant(name: str, schema: T.StructType, known: Mapping[str, T.DataType]) -> str:
    if name in schema.names:
        return f'its name has a dot, and so is written in backquotes: "`{name}`"'
    same = [each for each in known if each.casefold() == name.casefold()]
    if same:
        return f"did you mean {same[0]!r}?"
    outer, _, inner = name.rpartition(".")
    while outer and not isinstance(known.get(outer), T.StructType):
        outer, _, more = outer.rpartition(".")
        inner = f"{more}.{inner}"
    struct = known.get(outer)
    names = struct.names if isinstance(struct, T.StructType) else list(known)
    near = difflib.get_close_matches(inner, names, n=1)
    if near:
        return f"did you mean {f'{outer}.{near[0]}' if outer else near[0]!r}?"
    if outer:
        return f"the fields of {outer} are {', '.join(names)}"
    return f"the columns are {', '.join(f'`{each}`' if '.' in each else each for each in schema.names)}"


def _check_key(each: Expectation, name: str, schema: T.StructType) -> None:
    if name not in schema.names:
        what = "has a dot in its name" if name.startswith("`") else "is a field of a struct"
        raise misfit(each, f"{name!r} {what}", "with within:, a key's columns are whole ones")
    if isinstance(schema[name].dataType, _NESTED):
        raise misfit(
            each,
            f"{name!r} is {_of_many(schema[name].dataType)}",
            "with within:, a key's columns are plain values: give the key a column of its own in the transform, as "
            "to_json() of this one",
        )


def _of_many(kind: T.DataType) -> str:
    return f"{'an' if isinstance(kind, T.ArrayType) else 'a'} {kind.typeName()}"
