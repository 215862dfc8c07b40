"""What sources of records have in common: a broker keeps them, and each has a payload that is made a row."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from tidemill.model.base import Frozen


class RecordSource(Frozen):
    """A broker's records: what a payload is, and which of a record's own columns come with it.

    ``json``: each payload is one object of the ``schema``, DDL or the path of a Spark schema in JSON. ``string`` and
    ``raw``: one column ``value``, a text or bytes. ``with`` adds columns of the record's own.
    """

    kind: ClassVar[str]
    """Its key in a pipeline's file."""

    of_schema: ClassVar[frozenset[str]] = frozenset({"json"})
    """The formats whose payloads need a schema; the others have none."""

    format: str = "json"
    row_schema: str | None = Field(default=None, alias="schema")
    columns: tuple[str, ...] = Field(default=(), alias="with")

    @model_validator(mode="after")
    def _schema_of_json(self) -> Self:
        if (self.row_schema is None) == (self.format in self.of_schema):
            msg = (
                f"{self.format} values need a schema: inference would change with the data"
                if self.row_schema is None
                else f"{self.format} values have no schema: their row is the column value, and those named by with"
            )
            raise ValueError(msg)
        return self

    @property
    def name(self) -> str:
        """What is read, as a person reads it."""
        raise NotImplementedError
