"""Where in a frame the fields are that an input names as personal: columns, fields of structs, fields inside texts of JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.erasure.inside import Path
from tidemill.errors import ConfigError
from tidemill.model import Personal


@dataclass(frozen=True, slots=True)
class Place:
    """A text in a frame: a column, or a field of a struct, ``at``. ``paths``: the fields inside, where it is JSON; else it is meant as a whole."""

    at: Path
    name: str
    paths: tuple[Path, ...] = ()

    @property
    def column(self) -> Column:
        """The text."""
        return _column(self.at)


def places(schema: T.StructType, personal: Personal, name: str) -> tuple[Place, ...]:
    """The texts that hold what is personal in an input, each once.

    Raises :class:`ConfigError` where a column is not there, or is no text.
    """
    found: dict[Path, list[Path]] = {}
    if personal.seal:
        _found(schema, personal.subject, name)
    for field in personal.seal or personal.open:
        at, kind, inside = _found(schema, field, name)
        if not isinstance(kind, T.StringType):
            raise ConfigError(
                f"input {name!r}: {'.'.join(at)} is {kind.simpleString()}, and only texts can be sealed",
                next_step="read it as STRING, JSON too, and cast it where it is opened",
                field="personal",
            )
        found.setdefault(at, []).extend([inside] if inside else [])
    return tuple(Place(at, ".".join(at), tuple(paths)) for at, paths in found.items())


def within(schema: T.StructType, field: str) -> Column:
    """A field as a text, wherever it is; null where it is not there, or what it is in is no JSON.

    Zero is one number, with a sign or without. Of a key that comes twice in a text of JSON the last one counts, as it does where
    fields are sealed and in models.
    """
    at, kind, inside = _at(schema, field)
    column = _column(at)
    if not inside:
        if isinstance(kind, T.FloatType | T.DoubleType):
            column = F.when(column == 0, F.lit(0).cast(kind)).otherwise(column)
        return column.cast("string")
    shape = T.StructType([T.StructField(inside[-1], T.StringType())])
    for each in reversed(inside[:-1]):
        shape = T.StructType([T.StructField(each, shape)])
    found = F.from_json(column, shape)
    for each in inside:
        found = found.getField(each)
    return F.regexp_replace(found, r"^-(0+(\.0*)?([eE].*)?)$", "$1")


def _found(schema: T.StructType, field: str, name: str) -> tuple[Path, T.DataType, Path]:
    try:
        return _at(schema, field)
    except KeyError:
        raise ConfigError(
            f"input {name!r} has no column {field!r}, which personal names",
            next_step=f"it has {', '.join(schema.names)}",
            field="personal",
        ) from None


def _at(schema: T.StructType, field: str) -> tuple[Path, T.DataType, Path]:
    """The column or field of a struct that a field is or is in, its type, and the way to the field inside. Raises KeyError."""
    if field in schema.names:
        return (field,), schema[field].dataType, ()
    way, at = field.split("."), list[str]()
    inner: T.DataType = schema
    while way and isinstance(inner, T.StructType):
        inner = inner[way[0]].dataType
        at.append(way.pop(0))
    return tuple(at), inner, tuple(way)


def _column(at: Iterable[str]) -> Column:
    return F.col(".".join(f"`{each}`" for each in at))
