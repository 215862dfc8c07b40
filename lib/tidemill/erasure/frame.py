"""Seals and opens the fields of a frame, a stream or a batch: in Python workers, a batch of Arrow at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas import functions

from tidemill.erasure.inside import opened_inside, sealed_inside
from tidemill.erasure.places import Place, places, within
from tidemill.erasure.seal import NOBODY, mark_of, opened, sealed, subjects_of
from tidemill.erasure.sent import SentKeys
from tidemill.erasure.stores import sent_keys
from tidemill.model import Input, Personal

_functions: Any = functions  # they have no types
Work = Callable[[Sequence[str | None], Sequence[str | None]], list[str | None]]


def personal_rows(frame: DataFrame, each: Input, name: str) -> DataFrame:
    """An input's rows as its pipeline's transform gets them: personal fields sealed, or opened, as the input says."""
    personal = each.personal
    if personal is None:
        return frame
    found, keys = places(frame.schema, personal, name), sent_keys(personal)
    if not personal.seal:
        return _put(frame, [(place, open_texts(keys, place)(place.column)) for place in found])
    done = seal_texts(keys, found)(subject_of(frame, personal), *[place.column for place in found])
    return _put(frame, [(place, done.getField(f"_{i}")) for i, place in enumerate(found)])


def sealed_record(record: Column, frame: DataFrame, each: Input) -> Column:
    """A record of an input as its quarantine keeps it: whole, and sealed where the input has personal fields.

    Of a record that could not be read nobody is the subject.
    """
    personal = each.personal
    if personal is None or not personal.seal:
        return record
    seal = seal_texts(sent_keys(personal), [Place(("record",), "record")])
    return seal(subject_of(frame, personal), record).getField("_0")


def subject_of(frame: DataFrame, personal: Personal) -> Column:
    """Whose a row is; null where it does not say."""
    return within(frame.schema, personal.subject)


def is_of(frame: DataFrame, personal: Personal, subject: str, name: str) -> Column:
    """Whether a row of an input, as it was read, is a subject's: by its subject, or by what is sealed in it."""
    if personal.seal:
        return F.coalesce(subject_of(frame, personal) == F.lit(subject), F.lit(False))
    return mentions([place.column for place in places(frame.schema, personal, name)], subject)


def mentions(columns: Iterable[Column], subject: str) -> Column:
    """Whether something of a subject is sealed in one of these texts."""
    mark = mark_of(subject)
    return reduce(Column.__or__, (F.coalesce(each.contains(mark), F.lit(False)) for each in columns))


def seal_texts(keys: SentKeys, found: Sequence[Place]) -> Callable[..., Column]:
    """A function of columns: a subject and the texts of places in; a struct of the texts out, ``_0`` and so on, sealed."""

    def sealing(subject: pa.Array, *values: pa.Array) -> pa.Array:
        subjects = [NOBODY if each is None else each for each in subject.cast(pa.string()).to_pylist()]
        held = keys.open().keys(set(subjects))
        columns = [
            pa.array(
                sealed_inside(texts, subjects, place.name, place.paths, held)
                if place.paths
                else sealed(texts, subjects, place.name, held),
                pa.string(),
            )
            for place, texts in zip(found, (each.to_pylist() for each in values), strict=True)
        ]
        return pa.StructArray.from_arrays(columns, names=[f"_{i}" for i in range(len(found))])

    shape = T.StructType([T.StructField(f"_{i}", T.StringType()) for i in range(len(found))])
    made: Callable[..., Column] = _functions.arrow_udf(sealing, shape)
    return made


def open_texts(keys: SentKeys, place: Place) -> Callable[[Column], Column]:
    """A function of a column: sealed texts in, what they say out, or what stands for it where the subject was erased."""

    def opening(texts: pa.Array) -> pa.Array:
        values = texts.to_pylist()
        held = keys.open().known(subjects_of(values))
        return pa.array(
            opened_inside(values, place.paths, held) if place.paths else opened(values, held), pa.string()
        )

    made: Callable[[Column], Column] = _functions.arrow_udf(opening, T.StringType())
    return made


def _put(frame: DataFrame, values: Sequence[tuple[Place, Column]]) -> DataFrame:
    """The frame with these values in their places."""
    made: dict[str, Column] = {}
    for place, value in values:
        first, *inner = place.at
        at = ".".join(f"`{each}`" for each in inner)
        made[first] = made.get(first, F.col(f"`{first}`")).withField(at, value) if inner else value
    return frame.withColumns(made)
