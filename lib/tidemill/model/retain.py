"""How much of a log of events is kept."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from tidemill.model.base import Duration, Frozen

_UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B)\s*", value, re.IGNORECASE)
        if found is None:
            msg = f"{value!r} is no size: write 100 GB; units are {', '.join(_UNITS)}"
            raise ValueError(msg)
        return int(float(found[1]) * _UNITS[found[2].upper()])
    return value


Size = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(ge=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}], "examples": ["100 GB", "500 MB"]}),
]
"""A number of bytes, written ``100 GB``; a unit is 1,024 of the one before."""


class Retain(Frozen):
    """Whole intervals go, the oldest first: those that ended longer than ``age`` ago, and as many more as it takes to come
    down to ``size``. An interval that has not ended stays.

    >>> Retain.model_validate({"age": "90 days", "size": "1.5 GB"}).size
    1610612736
    """

    age: Duration | None = None
    size: Size | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Retain:
        if self.age is None and self.size is None:
            msg = "say how much is kept: age, size or both"
            raise ValueError(msg)
        if self.age is not None and not self.age:
            msg = "an age of nothing would keep nothing"
            raise ValueError(msg)
        return self
