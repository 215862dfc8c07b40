"""Where a pipeline's rows go, and what may change there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tidemill.model.base import Frozen, Share


class DeltaSink(Frozen):
    """A Delta table partitioned by interval.

    ``append``: every row the transform gives. ``upsert``: within an interval one row a ``key``, the one
    with the greatest ``order_by``; ties are broken by the other columns, so arrival order never matters.
    ``state`` is the folder of checkpoint, index, leases and runs; by default hidden inside the table.
    """

    path: str
    mode: Literal["append", "upsert"] = "append"
    key: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()
    state: str | None = None

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
    """The one kind of sink there is."""

    delta: DeltaSink


class Gate(Frozen):
    """How much a backfill may change an interval before a person has to agree.

    Shares are of the rows that the interval holds before. ``min_rows``: intervals smaller than this are
    not judged by share.
    """

    max_removed: Share | None = Field(default=0.2, ge=0)
    max_added: Share | None = Field(default=None, ge=0)
    min_rows: int = Field(default=100, ge=0)
