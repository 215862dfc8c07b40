"""What the values of the model have in common: frozen, closed to unknown keys, validated once."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from tidemill.errors import ConfigError
from tidemill.intervals import format_duration, parse_duration

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"


class Frozen(BaseModel):
    """A value: immutable, comparable, with no key it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=True
    )


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except ConfigError as error:
        raise ValueError(f"{error.message}: {error.next_step}") from None


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        msg = "a duration is not negative"
        raise ValueError(msg)
    return value


def _percent(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)):
        return float(match[1]) / 100
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    AfterValidator(_not_negative),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["2 hours", "15m", "0h"]}),
]
"""A span of time, written ``2 hours``, ``15m``, ``1d``."""

Share = Annotated[
    float,
    BeforeValidator(_percent),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "%$"}]}),
]
"""A share of rows, ``0.2`` or ``20%``."""
