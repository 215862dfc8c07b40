"""Records of brokers as rows: one shape for a stream and for history.

What cannot be a row is judged as in text files: it is kept in the column ``CORRUPT``, and the column ``PLACE`` says where
it stands. Bytes that are no UTF-8 have no text; they are kept as ``base64:`` and their base64.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.errors import ConfigError
from tidemill.model import RecordSource
from tidemill.sources.rows import BESIDE, CORRUPT, read_schema

_PARSED, _UNREAD, _TEXT = "_tidemill_parsed", "_tidemill_unread", "_tidemill_text"
_MARK = f"end_{secrets.token_hex(8)}"
"""The name of a field that no text has: nobody knows it."""


def record_rows(
    frame: DataFrame,
    source: RecordSource,
    payload: str,
    *,
    beside: Sequence[Column],
    added: Sequence[Column],
    texts: Sequence[str] = (),
) -> DataFrame:
    """The rows of a frame of records.

    ``payload``: the column with a record's bytes. ``beside``: the source's ``columns``, by their names. ``added``: what
    the reader adds, ``PLACE`` among it. ``texts``: other columns of bytes that must be texts for the record to be a row.

    Raises :class:`ConfigError` where a column would stand twice, or the schema does not parse.
    """
    value = F.col(payload)
    if source.format == "raw":
        return frame.select(value.alias("value"), *beside, *added)
    text = value.cast("string")
    valid = F.coalesce(F.is_valid_utf8(text), F.lit(True))
    for name in texts:
        valid &= F.coalesce(F.is_valid_utf8(F.col(name).cast("string")), F.lit(True))
    # Why it is no row, if it is none: of bytes without a text, their base64.
    unread = F.when(~valid, F.concat(F.lit("base64:"), F.base64(F.coalesce(value, F.lit(b"")))))
    if source.format == "string":
        return frame.select(F.when(valid, text).alias("value"), *beside, unread.alias(CORRUPT), *added)
    schema = read_schema(frame.sparkSession, source)
    assert schema is not None  # noqa: S101  the model saw to it
    names = [name for name in schema.names if name != CORRUPT]
    check_names(names, source)
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    parsed = F.from_json(F.when(valid, text), schema, options).alias(_PARSED)
    frame = frame.select(parsed, *beside, unread.alias(_UNREAD), text.alias(_TEXT), *added)
    row = F.col(_PARSED)
    # No object at all (an empty text, none as in a tombstone) is no record either.
    corrupt = F.coalesce(
        _UNREAD,
        F.when(row.isNull(), F.coalesce(_TEXT, F.lit(""))),
        row.getField(CORRUPT),
        F.when(~_alone(F.col(_TEXT)), F.col(_TEXT)),
    )
    columns = [row.getField(name).alias(name) for name in names]
    kept = [name for name in BESIDE if name in frame.columns]
    return frame.select(*columns, *source.columns, corrupt.alias(CORRUPT), *kept)


def _alone(text: Column) -> Column:
    """Whether nothing but white space follows the object that a text begins with. Of texts that begin with one: never null.

    Spark's parser reads a text's first value, and says nothing of what comes after.
    """
    # The first brace that closes is the last byte: of an object without objects and braces in it. That costs next to nothing.
    flat = F.octet_length(F.substring_index(text, "}", 1)) + F.lit(1) == F.octet_length(text)
    # Any other is read again, in a list and before a mark; nothing of it is kept. What follows the object makes the list
    # another one, or none: it could end the list by itself only after a mark of its own.
    listed = F.concat(F.lit("["), text, F.lit(f',{{"{_MARK}":true}}]'))
    marked = f"array(named_struct('{_MARK}', cast(null as boolean)), named_struct('{_MARK}', true))"
    read = F.from_json(listed, f"array<struct<{_MARK}: boolean>>")
    return F.when(flat, F.lit(True)).otherwise(read.eqNullSafe(F.expr(marked)))


def check_names(names: Sequence[str], source: RecordSource) -> None:
    """Raise :class:`ConfigError` where a column of a payload has the name of one beside it."""
    twice = {name.lower() for name in names} & set(source.columns)
    if twice:
        raise ConfigError(
            f"the schema of {source.name} has a column {min(twice)!r}, and with adds one of that name",
            next_step="leave it out of with, or of the schema",
            field=f"source.{source.kind}.with",
        )
