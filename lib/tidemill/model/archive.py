"""The archive of a topic: which pipeline lands its records, and what may be said of their times."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from tidemill.model.base import NAME_PATTERN, Duration, Frozen

ARCHIVED = ("topic", "partition", "offset", "timestamp", "key", "headers")
"""The columns that an archive has of a record, besides its ``value``."""


class Archive(Frozen):
    """A ``pipeline`` of the project that lands the raw records, from whose table history is read.

    ``within``: how far an event time may lie from the broker's. What lies further is set aside, live and in history; so a
    backfill of some intervals needs no more of the archive than their time, widened by this.

    >>> Archive.model_validate("ingest").pipeline
    'ingest'
    """

    pipeline: str = Field(pattern=NAME_PATTERN)
    within: Duration | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_name_is_enough(cls, value: Any) -> Any:
        return {"pipeline": value} if isinstance(value, str) else value
