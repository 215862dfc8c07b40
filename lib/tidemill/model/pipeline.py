"""A pipeline: one frozen value that says everything about what its table holds."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from tidemill.intervals import Grain, Interval, intervals_reading, utc
from tidemill.model.base import NAME_PATTERN, Duration, Frozen
from tidemill.model.quality import Quality
from tidemill.model.sink import DeltaSink, Gate, Sink
from tidemill.model.source import EventTime, Input
from tidemill.model.transform import Step
from tidemill.model.trigger import Trigger

SINGLE_INPUT = "events"
"""The name of the input of a pipeline that declares ``source`` rather than ``sources``."""


class IntervalSpec(Frozen):
    """The grain of the table, and the output column that places a row in an interval.

    ``all``: one interval that is all of time; every row is in it, and the table has no partitions.
    """

    grain: Grain
    column: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"grain": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _all_places_every_row(self) -> Self:
        if self.grain is Grain.ALL and self.column is not None:
            msg = "interval all is one interval, and every row is in it: leave column out"
            raise ValueError(msg)
        return self


class Pipeline(Frozen):
    """What a pipeline is. Two equal values give equal tables from equal input.

    >>> p = Pipeline.model_validate({
    ...     "name": "clicks",
    ...     "source": {"files": {"path": "in", "format": "json", "schema": "at TIMESTAMP, id STRING"}},
    ...     "event_time": {"column": "at", "watermark": "10m"}, "interval": "day",
    ...     "sink": {"delta": {"path": "out"}}})
    >>> p.partition_column, p.interval_column
    ('event_date', 'at')
    """

    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    inputs: dict[str, Input] = Field(alias="sources", min_length=1)
    event_time: EventTime
    interval: IntervalSpec
    transform: tuple[Step, ...] = ()
    lookback: Duration = timedelta(0)
    lookahead: Duration = timedelta(0)
    start: datetime | None = None
    sink: Sink
    quality: Quality = Quality()
    gate: Gate = Gate()
    trigger: Trigger = Trigger(processing_time=timedelta(seconds=10))
    chunk: int = Field(default=31, ge=1)
    spark: dict[str, str] = Field(default_factory=dict)
    _reads_opened: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _shorthands(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        fields = dict(value)
        if "source" in fields:
            if "sources" in fields or "inputs" in fields:
                msg = "name either source or sources, not both"
                raise ValueError(msg)
            fields["sources"] = {SINGLE_INPUT: fields.pop("source")}
        steps = fields.get("transform", ())
        fields["transform"] = tuple(steps) if isinstance(steps, (list, tuple)) else (steps,)
        return fields

    @field_validator("start", mode="before")
    @classmethod
    def _start_may_be_a_date(cls, value: Any) -> Any:
        return datetime(value.year, value.month, value.day) if type(value) is date else value  # noqa: DTZ001

    @field_validator("start")
    @classmethod
    def _start_is_utc(cls, value: datetime | None) -> datetime | None:
        return None if value is None else utc(value)

    @field_validator("spark")
    @classmethod
    def _zone_is_utc(cls, value: dict[str, str]) -> dict[str, str]:
        if value.get("spark.sql.session.timeZone", "UTC") != "UTC":
            msg = (
                "spark.sql.session.timeZone is UTC, so that intervals are the same everywhere; give times a zone in "
                "the data, or with to_utc_timestamp in the transform"
            )
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _some_input_moves(self) -> Self:
        if all(each.static for each in self.inputs.values()):
            msg = "at least one source must not be static"
            raise ValueError(msg)
        if not self.transform and len(self.inputs) > 1:
            msg = "a pipeline of several sources needs a transform that joins them"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _decisions_are_kept(self) -> Self:
        if not self.recorded:
            return self
        if self.decides is None or sum(step.decide is not None for step in self.transform) > 1:
            msg = "a step that decides is the last one, and there is one: make a pipeline over the event store of what follows"
            raise ValueError(msg)
        if self.table.mode != "append" or self.table.retain is not None:
            msg = "an event store is appended to, for ever: leave out mode, key, order_by and retain"
            raise ValueError(msg)
        if self.quality.suite is not None:
            msg = "events are facts, and too late to be refused: judge the commands, with quality.inputs"
            raise ValueError(msg)
        if self.opens:
            msg = "what is decided stays, opened fields too: leave them sealed, and open them in a pipeline over the event store"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _all_of_time_has_no_edges(self) -> Self:
        if self.grain is not Grain.ALL:
            return self
        for name in ("lookback", "lookahead"):
            if getattr(self, name):
                msg = f"interval all is all of time, and nothing lies before or after it: leave {name} out"
                raise ValueError(msg)
        if self.start is not None:
            msg = (
                "interval all begins with the first event: leave start out, or filter events in the transform"
            )
            raise ValueError(msg)
        if self.table.retain is not None:
            msg = "interval all is one interval, which never ends: retain would take nothing, or everything"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _sources_are_named_once(self) -> Self:
        marks: dict[str, str] = {}
        for name in self.moving:
            other = marks.setdefault(self.inputs[name].source.mark, name)
            if other != name:
                # Nothing would tell their positions apart.
                msg = f"two sources are one, {other} and {name}: name it once, and use it twice in the transform"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _rules_are_of_inputs(self) -> Self:
        for name in self.quality.inputs:
            if name not in self.inputs or self.inputs[name].static:
                msg = f"quality.inputs names {name!r}; the inputs that rows come from are {', '.join(self.moving)}"
                raise ValueError(msg)
        return self

    @property
    def moving(self) -> tuple[str, ...]:
        """The inputs that are read as they grow."""
        return tuple(name for name, each in self.inputs.items() if not each.static)

    @property
    def decides(self) -> str | None:
        """The domain, ``module:NAME``, that decides what the table holds; None where the input does."""
        return self.transform[-1].decide if self.transform else None

    @property
    def recorded(self) -> bool:
        """Whether the table is an event store: its rows are what was decided, and nothing gives them a second time."""
        return any(step.decide is not None for step in self.transform)

    @property
    def personal(self) -> bool:
        """Whether it seals or opens fields of persons."""
        return any(each.personal is not None for each in self.inputs.values())

    @property
    def opens(self) -> bool:
        """Whether it opens fields of persons: what it makes may hold them in clear."""
        return any(each.personal is not None and each.personal.open for each in self.inputs.values())

    @property
    def holds_opened(self) -> bool:
        """Whether what it makes may hold fields of persons that it opened, or that a pipeline before it did."""
        return self.opens or self._reads_opened

    def reading_opened(self) -> Self:
        """The pipeline of a project in which one before it opens fields."""
        made = self.model_copy()
        made._reads_opened = True  # noqa: SLF001  its own, of a value that nobody has yet
        return made

    @property
    def table(self) -> DeltaSink:
        """The sink."""
        return self.sink.delta

    @property
    def grain(self) -> Grain:
        """The grain of the table's intervals."""
        return self.interval.grain

    @property
    def interval_column(self) -> str:
        """The output column that places a row in an interval."""
        return "time" if self.recorded else self.interval.column or self.event_time.column

    @property
    def partition_column(self) -> str:
        """The partition column, which the engine adds; "" for ``interval: all``."""
        return self.grain.column

    @property
    def quarantine_path(self) -> str:
        """The table beside the sink's that holds the rows that were set aside."""
        return f"{self.table.path.rstrip('/')}_quarantine"

    @property
    def states_path(self) -> str:
        """The table beside the sink's that holds the states of a fold without a horizon, at interval ends."""
        return f"{self.table.path.rstrip('/')}_states"

    @property
    def rejections_path(self) -> str:
        """The table beside an event store that holds the commands of which nothing came, and why."""
        return f"{self.table.path.rstrip('/')}_rejections"

    @property
    def unsent_path(self) -> str:
        """The table beside the sink's that holds the messages that are too great for its topic."""
        return f"{self.table.path.rstrip('/')}_unsent"

    def event_time_of(self, name: str) -> EventTime:
        """The event time of one input: its own, else the pipeline's."""
        return self.inputs[name].event_time or self.event_time

    def input_range(self, interval: Interval) -> tuple[datetime, datetime]:
        """How far the input of an interval reaches: ``[start - lookback, end + lookahead)``."""
        return interval.start - self.lookback, interval.end + self.lookahead

    def intervals_reading(self, start: datetime, end: datetime) -> tuple[Interval, ...]:
        """The intervals whose input range meets ``[start, end)``; ``end`` must be after ``start``.

        An empty overlap does not count: an interval ending at ``start`` with no lookahead is not among them.
        """
        return tuple(
            intervals_reading(self.grain, start, end, lookback=self.lookback, lookahead=self.lookahead)
        )
