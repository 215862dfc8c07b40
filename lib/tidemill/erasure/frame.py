"""Seals and opens the columns of a frame, a stream or a batch: in Python workers, a batch of Arrow at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas import functions

from tidemill.erasure.keys import KeyStore, key_store
from tidemill.erasure.seal import NOBODY, opened, sealed, subjects_of
from tidemill.errors import ConfigError
from tidemill.model import Input, Personal

_functions: Any = functions  # they have no types


def personal_rows(frame: DataFrame, each: Input, name: str) -> DataFrame:
    """An input's rows as its pipeline's transform gets them: personal fields sealed, or opened, as the input says."""
    personal = each.personal
    if personal is None:
        return frame
    _check(frame, personal, name)
    keys = key_store(personal.keys)
    if personal.seal:
        found = seal_fields(personal.seal, keys)(
            F.col(f"`{personal.subject}`").cast("string"), *[F.col(f"`{field}`") for field in personal.seal]
        )
        return frame.withColumns({field: found.getField(field) for field in personal.seal})
    return frame.withColumns({field: open_text(keys)(F.col(f"`{field}`")) for field in personal.open})


def sealed_record(record: Column, frame: DataFrame, each: Input) -> Column:
    """A record of an input as its quarantine keeps it: whole, and sealed where the input has personal fields.

    Of a record that could not be read nobody is the subject.
    """
    personal = each.personal
    if personal is None or not personal.seal:
        return record
    seal = seal_fields(("record",), key_store(personal.keys))
    return seal(frame[f"`{personal.subject}`"].cast("string"), record).getField("record")


def seal_fields(fields: Sequence[str], keys: KeyStore) -> Callable[..., Column]:
    """A function of columns: subject and fields in, a struct of the sealed fields out."""

    def sealing(subject: pa.Array, *values: pa.Array) -> pa.Array:
        subjects = [NOBODY if each is None else each for each in subject.cast(pa.string()).to_pylist()]
        held = keys.keys(set(subjects))
        columns = [
            pa.array(sealed(value.to_pylist(), subjects, field, held), pa.string())
            for field, value in zip(fields, values, strict=True)
        ]
        return pa.StructArray.from_arrays(columns, names=list(fields))

    shape = T.StructType([T.StructField(field, T.StringType()) for field in fields])
    made: Callable[..., Column] = _functions.arrow_udf(sealing, shape)
    return made


def open_text(keys: KeyStore) -> Callable[[Column], Column]:
    """A function of a column: sealed texts in, what they say out, or null where the subject was erased."""

    def opening(texts: pa.Array) -> pa.Array:
        values = texts.to_pylist()
        return pa.array(opened(values, keys.known(subjects_of(values))), pa.string())

    made: Callable[[Column], Column] = _functions.arrow_udf(opening, T.StringType())
    return made


def _check(frame: DataFrame, personal: Personal, name: str) -> None:
    kinds = {field.name: field.dataType for field in frame.schema.fields}
    subject = (personal.subject,) if personal.seal else ()
    for column in (*subject, *personal.seal, *personal.open):
        if column not in kinds:
            raise ConfigError(
                f"input {name!r} has no column {column!r}, which personal names",
                next_step=f"it has {', '.join(kinds)}",
                field="personal",
            )
    for column in (*personal.seal, *personal.open):
        if not isinstance(kinds[column], T.StringType):
            raise ConfigError(
                f"input {name!r}: {column} is {kinds[column].simpleString()}, and only texts can be sealed",
                next_step="read it as STRING, and cast it where it is opened",
                field="personal",
            )
