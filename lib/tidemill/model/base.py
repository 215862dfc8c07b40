"""What the values of the model have in common: frozen, closed to unknown keys, validated once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from tidemill.errors import ConfigError
from tidemill.intervals import format_duration, parse_duration

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"


class Frozen(BaseModel):
    """A value: immutable, comparable, with no key it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=True
    )


def check_client_options(names: Iterable[str], owned: Mapping[str, str], others: Sequence[str] = ()) -> None:
    """Raise ValueError for what is no option of Kafka's clients, nor one of ``others``, and for one that is said elsewhere.

    ``owned``: by name, what says it.
    """
    for name in names:
        if name in owned:
            msg = f"{name} is not an option here; what says it is {owned[name]}"
            raise ValueError(msg)
        if not name.startswith("kafka.") and name not in others:
            more = f"; others: {', '.join(others)}" if others else ""
            msg = f"{name!r} is no option of a Kafka client: those begin with kafka.{more}"
            raise ValueError(msg)


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


def _share(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)):
        # As it is written: 33.3 % is not 0.33299999999999996.
        return float(Decimal(match[1]) / 100)
    number = _read(value)
    # A whole number above 1 may be meant as one of rows, or as per cent.
    if number is None or (isinstance(number, int) and number > 1):
        msg = f"{value!r} is no share: write 0.2 or 20%; numbers of rows have limits of their own, ..._rows"
        raise ValueError(msg)
    return number


def _rows(value: Any) -> Any:
    number = _read(value)
    if not isinstance(number, int):
        msg = f"{value!r} is no number of rows: write 500; shares have limits of their own, without _rows"
        raise ValueError(msg)  # noqa: TRY004  pydantic explains ValueErrors
    return number


def _read(value: Any) -> int | float | None:
    """A number, also as the text that a reference to the environment gives; None for anything else."""
    if isinstance(value, str):
        for kind in (int, float):
            with suppress(ValueError):
                return kind(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    AfterValidator(_not_negative),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["2 hours", "15m", "0h"]}),
]
"""A span of time, written ``2 hours``, ``15m``, ``1d``."""

_PERCENT = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}

Share = Annotated[
    float,
    BeforeValidator(_share),
    Field(ge=0, allow_inf_nan=False),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, _PERCENT], "examples": ["150%"]}),
]
"""A share of rows, ``0.2`` or ``20%``; of what comes beside them it may be more than all."""

Part = Annotated[
    Share,
    Field(le=1),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, _PERCENT], "examples": ["20%"]}
    ),
]
"""A share of rows that cannot be more than all of them."""

Rows = Annotated[int, Field(ge=0), BeforeValidator(_rows)]
"""A number of rows."""
