"""Where a pipeline's rows come from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tidemill.model.base import Duration, Frozen


class EventTime(Frozen):
    """Which column says when an event happened, and how long stragglers are waited for.

    ``watermark`` is Spark's: without one a stateful transform is refused.
    """

    column: str
    watermark: Duration | None = None


class FilesSource(Frozen):
    """A folder of event files; each is immutable once it has its final name.

    ``schema`` is DDL (``id STRING, at TIMESTAMP``), or the path of a Spark schema in JSON; parquet may
    leave it out. ``max_files_per_batch`` bounds a live batch. Names that begin with ``_`` or ``.`` are
    not read, so a writer publishes a file by renaming it.
    """

    path: str
    format: Literal["json", "csv", "parquet"]
    row_schema: str | None = Field(default=None, alias="schema")
    options: dict[str, str] = Field(default_factory=dict)
    max_files_per_batch: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _text_needs_a_schema(self) -> FilesSource:
        if self.row_schema is None and self.format != "parquet":
            msg = f"a {self.format} source needs a schema: inference would change with the data"
            raise ValueError(msg)
        return self


class DeltaSource(Frozen):
    """A Delta table: read live as a stream of appends, and as history at a version.

    Where the table is another pipeline's, a swap published there makes the intervals here that depend on
    it dirty.
    """

    path: str
    max_files_per_batch: int | None = Field(default=None, ge=1)


class Input(Frozen):
    """One named input of a pipeline: exactly one kind of source, with its own event time if it has one.

    ``static``: read whole, as it is when a batch or a backfill starts, and joined to the others. Its
    changes do not make intervals dirty.
    """

    files: FilesSource | None = None
    delta: DeltaSource | None = None
    event_time: EventTime | None = None
    static: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Input:
        if (self.files is None) == (self.delta is None):
            msg = "name exactly one of: files, delta"
            raise ValueError(msg)
        return self

    @property
    def source(self) -> FilesSource | DeltaSource:
        """The one source that is set."""
        return self.files or self.delta  # type: ignore[return-value]  # the validator saw to it
