"""Where a pipeline's rows go, and what may change there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tidemill.model.base import Duration, Frozen, Part, Rows, Share
from tidemill.model.retain import Retain
from tidemill.model.topic import TopicSink


class DeltaSink(Frozen):
    """A Delta table partitioned by interval.

    ``append``: every row the transform gives. ``upsert``: within an interval one row a ``key``, the one
    with the greatest ``order_by``; ties are broken by the other columns, so arrival order never matters.
    With ``interval: all`` that is one row a key overall: a read model of the current state.
    ``state`` is the folder of checkpoint, index, leases and runs; by default hidden inside the table.
    ``retain``: how much an archive keeps; ``maintain`` takes away what is older. ``keep_states``: for how long back the
    states of a fold without a horizon are kept at every interval end (None: all of them); before that, ``maintain`` leaves
    those at one end.
    """

    path: str
    mode: Literal["append", "upsert"] = "append"
    key: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()
    state: str | None = None
    retain: Retain | None = None
    keep_states: Duration | None = None

    @model_validator(mode="after")
    def _upsert_is_declared(self) -> DeltaSink:
        if self.mode == "upsert" and not (self.key and self.order_by):
            msg = "mode upsert needs key and order_by"
            raise ValueError(msg)
        if self.mode == "append" and self.order_by:
            msg = "order_by belongs to mode upsert"
            raise ValueError(msg)
        return self

    @property
    def state_path(self) -> str:
        """The folder of everything about the pipeline that is not rows."""
        return self.state or f"{self.path.rstrip('/')}/_tidemill"


class Sink(Frozen):
    """A table; and a topic, if the rows that the live stream appends to it are to be sent there, too."""

    delta: DeltaSink
    kafka: TopicSink | None = None

    @model_validator(mode="after")
    def _only_appends_are_sent(self) -> Sink:
        if self.kafka is not None and self.delta.mode != "append":
            msg = "a topic is sent what is appended; an upsert replaces rows: read the table instead"
            raise ValueError(msg)
        return self


EVERY_COLUMN = "default"
"""In a mapping of limits by column: the limit of the columns that it does not name."""


def _by_column(value: Any) -> Any:
    return value if isinstance(value, dict) else {EVERY_COLUMN: value}


NullDrift = Annotated[
    dict[str, Part | None],
    BeforeValidator(_by_column, json_schema_input_type=Part | dict[str, Part | None] | None),
]


class Gate(Frozen):
    """How much a backfill may change an interval before a person has to agree.

    ``max_removed``, ``max_added``, ``max_changed``: shares of the rows that stand; with ``_rows`` numbers of rows. A row
    is changed when its key stands on both sides; without a key, where 30 rows come and 50 go, 30 change and 20 vanish.
    ``max_null_drift``: by how much the share of nulls in a column may differ from what stands; one limit, or one a
    column with ``default`` for the others (None: no limit). ``min_rows``: intervals of which fewer rows stand are judged
    by numbers of rows alone; one that is empty, or found equal, is not judged.
    """

    max_removed: Part | None = 0.2
    max_removed_rows: Rows | None = None
    max_added: Share | None = None
    max_added_rows: Rows | None = None
    max_changed: Part | None = None
    max_changed_rows: Rows | None = None
    max_null_drift: NullDrift = Field(default_factory=dict)
    min_rows: Rows = 100

    def null_drift_of(self, column: str) -> float | None:
        """How far the share of nulls in a column may drift; None where there is no limit."""
        return self.max_null_drift.get(column, self.max_null_drift.get(EVERY_COLUMN))

    @property
    def limits_of_columns(self) -> dict[str, float | None]:
        """The limits of columns that are named."""
        return {name: limit for name, limit in self.max_null_drift.items() if name != EVERY_COLUMN}

    @property
    def watches_nulls(self) -> bool:
        """Whether the share of nulls of any column has a limit."""
        return any(limit is not None for limit in self.max_null_drift.values())
