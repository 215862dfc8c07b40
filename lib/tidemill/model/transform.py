"""What a pipeline does to its rows: an ordered list of steps, each a function, a query or a decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field, field_serializer, model_validator
from pydantic.json_schema import SkipJsonSchema

from tidemill.model.base import Frozen

FUNCTION_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class Step(Frozen):
    """One step. The first gets every input by name; each later one gets the frame before it.

    ``function`` names ``module:function``, from frames to a frame; ``sql`` is a query in which inputs (in
    later steps: ``events``) are tables. ``call`` holds a function given as an object, in Python only. ``decide``
    names ``module:DOMAIN``, a :class:`tidemill.eventsourcing.Domain`: the rows are commands, and what is decided of
    them is the pipeline's table, an event store.
    """

    function: str | None = Field(default=None, pattern=FUNCTION_PATTERN)
    sql: str | None = None
    decide: str | None = Field(default=None, pattern=FUNCTION_PATTERN)
    call: SkipJsonSchema[Callable[..., Any] | None] = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"function": value}
        if callable(value) and not isinstance(value, type):
            return {"call": value}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        if sum(kind is not None for kind in (self.function, self.sql, self.call, self.decide)) != 1:
            msg = "a step is 'module:function', {sql: ...} or {decide: 'module:DOMAIN'}"
            raise ValueError(msg)
        return self

    @field_serializer("call")
    def _name_of_call(self, call: Callable[..., Any] | None) -> str | None:
        return None if call is None else f"{call.__module__}:{call.__qualname__}"

    @property
    def label(self) -> str:
        """How messages name the step."""
        if self.function or self.decide:
            return self.function or f"decide {self.decide}"
        return "sql" if self.sql else f"{self.call.__module__}:{self.call.__qualname__}"  # type: ignore[union-attr]
