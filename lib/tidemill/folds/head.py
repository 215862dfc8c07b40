"""What is known of a bucket without reading its blobs: which there are, and when something is to be done."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tidemill.folds.once import Size


@dataclass
class Chunk:
    """Waiting rows: where they lie, and their times in epoch microseconds."""

    number: int
    first: int
    last: int
    rows: int


@dataclass
class Head:
    """Times in epoch microseconds, ``timer`` in milliseconds."""

    buckets: int
    stepped: int | None = None
    """Up to when rows were stepped; what comes at or before is late."""
    timer: int | None = None
    """What was asked of the state store's timers."""
    code: str | None = None
    """By whose word keys are to be woken, see :attr:`~tidemill.folds.shape.Shape.code`."""
    segments: int = 1
    keys: list[int] = field(default_factory=lambda: [0])
    wakes: list[int | None] = field(default_factory=lambda: [None])
    """Of each segment: how many keys it has, and when the first of them is to be woken."""
    recent_wake: int | None = None
    """When the first is to be woken of the keys that changed lately and lie apart from their segments."""
    merged: int = 0
    """The segment that is next to take its own among those back."""
    chunks: list[Chunk] = field(default_factory=list)
    next_chunk: int = 0
    begun: int | None = None
    """Where the interval begins whose states are yet to be given, and ``ends`` where it ends; None: nothing is touched."""
    ends: int | None = None
    touched: list[int] = field(default_factory=list)
    """The segments with keys that were stepped in that interval."""
    met: Size = field(default_factory=Size)
    """How many values of the fold's ``once`` there are."""

    def due(self) -> int | None:
        """When the first key is to be woken."""
        return min((wake for wake in (*self.wakes, self.recent_wake) if wake is not None), default=None)

    def next_wake(self) -> int | None:
        """When there is something to do without new rows."""
        times = [each for each in (self.due(), self.ends) if each is not None]
        return min([*times, *(chunk.first for chunk in self.chunks)], default=None)

    def dumped(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def loaded(cls, values: dict[str, Any]) -> Head:
        """From plain values."""
        chunks = [Chunk(**each) for each in values["chunks"]]
        return cls(**{**values, "chunks": chunks, "met": Size(**values["met"])})
