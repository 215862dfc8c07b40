"""The archive of a topic: which pipeline lands its records, and what may be said of their times."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tidemill.model.base import NAME_PATTERN, Duration, Frozen

ARCHIVED = ("topic", "partition", "offset", "timestamp", "key", "headers")
"""The columns that an archive has of a record, besides its ``value``."""


class Archive(Frozen):
    """A ``pipeline`` of the project that lands the raw records, from whose table history is read.

    ``within``: how far an event time may lie from the broker's. What lies further is set aside, live and in history; so a
    backfill of some intervals needs no more of the archive than their time, widened by this.
    """

    pipeline: str = Field(pattern=NAME_PATTERN)
    within: Duration | None = None


def _named(value: Any) -> Any:
    return {"pipeline": value} if isinstance(value, str) else value


ArchiveOrName = Annotated[Archive, BeforeValidator(_named, json_schema_input_type=Archive | str)]
"""An archive; where there is nothing to say but its pipeline, that name is enough."""
