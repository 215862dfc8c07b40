"""Where a bucket's blobs lie: small ones together with the head, in one value of the state store; the others in values of their own.

Each call to the state store is a round trip between two processes, and costs by what it carries, too. A bucket of few keys
is one read and one write a batch then. Of a large one, what was written is remembered in the process, by a mark that is drawn
anew for each writing and stands in the head: what is remembered under the head's mark is what the store has. Pure: cells are a protocol.
"""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from typing import Any, Protocol

import pyarrow as pa

from tidemill.errors import StateError

HEAD = "head"
FORM = 1
"""How a bucket lies in its cells. Each change after which what was written before would be read wrongly makes it one more."""
SMALL, TOGETHER = 64 * 1024, 256 * 1024
"""Bytes of a blob that may lie with the head, and of all that do."""
ANEW = (
    "move the table and its state (_tidemill in its folder, or where sink.delta.state says) away, and run the pipeline: it reads its "
    "input from the start. Of an event store move _tidemill/checkpoint alone"
)
_WIDTH = 8
"""Bytes of a mark, which each blob apart begins with."""
REMEMBERED = 64 * 1024 * 1024
"""Bytes of blobs that a process remembers, of all its buckets."""


class Cells(Protocol):
    """Where blobs are kept, by name."""

    def get(self, name: str) -> bytes | None:
        """The blob, if it is there."""

    def put(self, name: str, blob: bytes) -> None:
        """Keep a blob."""

    def drop(self, name: str) -> None:
        """Forget a blob that is there."""


class Remembered:
    """Blobs by mark, those used last, up to so many bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._blobs: OrderedDict[int, bytes] = OrderedDict()

    def get(self, mark: int) -> bytes | None:
        """The blob of a mark, if it is still remembered."""
        if mark in self._blobs:
            self._blobs.move_to_end(mark)
        return self._blobs.get(mark)

    def put(self, mark: int, blob: bytes) -> None:
        """Remember a blob; what was used longest ago goes."""
        self.drop(mark)
        self._blobs[mark] = blob
        self._size += len(blob)
        while self._size > self._most:
            self.drop(next(iter(self._blobs)))

    def drop(self, mark: int) -> None:
        """Forget a blob, if it is there."""
        self._size -= len(self._blobs.pop(mark, b""))


_remembered = Remembered(REMEMBERED)


class Held:
    """A bucket's blobs in one batch, and its head, which :meth:`save` writes. ``what`` they are of, for a person.

    Raises :class:`StateError` where the cells are of another form than :data:`FORM`, or damaged.
    """

    def __init__(self, cells: Cells, what: str) -> None:
        self._what, self._cells = what, cells
        self._small: dict[str, bytes] = {}
        self._apart: dict[str, int] = {}
        self.head: dict[str, Any] | None = None
        """The head as it was saved; None: there was none."""
        if (frame := cells.get(HEAD)) is not None:
            self._open(frame)

    def _open(self, frame: bytes) -> None:
        line, _, rest = frame.partition(b"\n")
        try:
            values = json.loads(line)
        except ValueError:
            raise self.damaged(f"the {HEAD} of a bucket cannot be read") from None
        # The first heads had no blobs with them. They did not say a form, nor did those that came after them, which are of the first.
        form = values.get("form", 1 if "apart" in values else 0)
        if form != FORM:
            other = "an earlier" if form < FORM else "a later"
            raise StateError(
                f"{self._what}: the states in the checkpoint are of form {form}, as {other} tidemill wrote them, and this one "
                f"reads form {FORM}",
                next_step=f"go on with that tidemill; or begin anew: {ANEW}",
                form=form,
            )
        self.head, self._apart = values["head"], values["apart"]
        start = 0
        for name, size in values["small"]:
            self._small[name] = rest[start : start + size]
            start += size

    def get(self, name: str) -> bytes | None:
        """The blob, if it is there."""
        if name in self._small:
            return self._small[name]
        mark = self._apart.get(name)
        if mark is None:
            return None
        blob = _remembered.get(mark)
        if blob is None:
            stored = self._cells.get(name) or b""
            if stored[:_WIDTH] != mark.to_bytes(_WIDTH):
                raise self.damaged(f"what lies at {name!r} is not what the {HEAD} of its bucket means")
            blob = stored[_WIDTH:]
            _remembered.put(mark, blob)
        return blob

    def put(self, name: str, blob: bytes) -> None:
        """Keep a blob, in place of the one of this name."""
        self._small.pop(name, None)
        if len(blob) <= SMALL and len(blob) + sum(map(len, self._small.values())) <= TOGETHER:
            if name in self._apart:
                self.drop(name)
            self._small[name] = blob
            return
        _remembered.drop(self._apart.get(name, 0))
        self._apart[name] = mark = random.SystemRandom().getrandbits(63)
        self._cells.put(name, mark.to_bytes(_WIDTH) + blob)
        _remembered.put(mark, blob)

    def drop(self, name: str) -> None:
        """Forget a blob, if it is there."""
        self._small.pop(name, None)
        if (mark := self._apart.pop(name, None)) is not None:
            _remembered.drop(mark)
            self._cells.drop(name)

    def clear(self) -> None:
        """Forget all blobs."""
        for name in [*self._small, *self._apart]:
            self.drop(name)

    def save(self, head: dict[str, Any]) -> None:
        """Write the head, and what lies with it: last."""
        small = [(name, len(blob)) for name, blob in self._small.items()]
        line = json.dumps({"form": FORM, "head": head, "apart": self._apart, "small": small})
        self._cells.put(HEAD, b"".join([line.encode(), b"\n", *self._small.values()]))

    def damaged(self, how: str) -> StateError:
        """What is to be said where the cells contradict each other."""
        return StateError(
            f"{self._what}: the states in the checkpoint are damaged: {how}",
            next_step=f"restore the checkpoint; or begin anew: {ANEW}",
        )


def blob_of(table: pa.Table | pa.RecordBatch) -> bytes:
    """A table as one blob, with its schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        if isinstance(table, pa.Table):
            table = table.combine_chunks()
        writer.write(table)
    return bytes(sink.getvalue().to_pybytes())


def table_of(blob: bytes) -> pa.Table:
    """A table from its blob."""
    return pa.ipc.open_stream(pa.py_buffer(blob)).read_all()
