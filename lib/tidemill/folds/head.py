"""What is known of a bucket without reading its blobs: which there are, and when something is to be done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

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
    """What is known of a bucket without reading its blobs. Times in epoch microseconds, ``timer`` in milliseconds."""

    buckets: int
    stepped: int | None = None
    """Up to when rows were stepped; what comes at or before is late."""
    timer: int | None = None
    """What was asked of the state store's timers."""
    segments: int = 1
    keys: list[int] = field(default_factory=lambda: [0])
    wakes: list[int | None] = field(default_factory=lambda: [None])
    chunks: list[Chunk] = field(default_factory=list)
    next_chunk: int = 0
    begun: int | None = None
    """Where the interval begins whose states are yet to be given, and ``ends`` where it ends; None: nothing is touched."""
    ends: int | None = None
    touched: list[int] = field(default_factory=list)
    """The segments with keys that were stepped in that interval."""
    met: Size = field(default_factory=Size)
    """How many values of the fold's ``once`` there are."""

    def next_wake(self) -> int | None:
        """When there is something to do without new rows."""
        times = [wake for wake in (*self.wakes, self.ends) if wake is not None]
        return min([*times, *(chunk.first for chunk in self.chunks)], default=None)

    def dumped(self) -> bytes:
        """As a blob."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def loaded(cls, blob: bytes) -> Head:
        """From a blob."""
        values = json.loads(blob)
        values["chunks"] = [Chunk(**each) for each in values["chunks"]]
        values["met"] = Size(**values.get("met", {}))
        return cls(**values)
