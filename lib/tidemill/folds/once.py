"""The values that a bucket has met, for ever: exact, and a batch reads of them only what its own rows ask for.

A value is some bytes, whose first eight are as good as random. Values lie in chunks by those bits. Chunks become more one at a
time (linear hashing), so that each holds some hundreds, however many there are: to ask for a value, and to add one, is to
read and to write one chunk. Pure: cells are a protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

WIDTH = 16
"""Bytes of a value."""
A_CHUNK = 512
"""Values in a chunk, on average, at most."""


class Cells(Protocol):
    """Where chunks are kept, by name."""

    def get(self, name: str) -> bytes | None:
        """The chunk, if it is there."""

    def put(self, name: str, blob: bytes) -> None:
        """Keep a chunk."""


@dataclass
class Size:
    """How much there is: what has to be known to find a value."""

    values: int = 0
    chunks: int = 1

    def chunk_of(self, value: bytes) -> int:
        """Where a value lies.

        >>> Size(chunks=6).chunk_of(bytes([0, 0, 0, 0, 0, 0, 0, 7]))
        3
        """
        at = int.from_bytes(value[:8]) & (2 * self._whole - 1)
        return at if at < self.chunks else at - self._whole

    @property
    def splits(self) -> int:
        """The chunk whose values the next one shares."""
        return self.chunks - self._whole

    @property
    def _whole(self) -> int:
        return 1 << (self.chunks.bit_length() - 1)


class Once:
    """The values of a bucket in one batch. ``size`` is changed, and is the bucket's to keep."""

    def __init__(self, cells: Cells, size: Size) -> None:
        self._cells, self._size = cells, size
        self._chunks: dict[int, bytearray] = {}

    def first(self, values: Sequence[bytes], known: Callable[[bytes], bool]) -> list[bool]:
        """Of each value whether it comes for the first time; each is met then. ``known``: whether it was, elsewhere."""
        changed: set[int] = set()
        found = []
        for value in values:
            number = self._size.chunk_of(value)
            chunk = self._chunk(number)
            new = not _holds(chunk, value) and not known(value)
            if new:
                chunk += value
                changed.add(number)
                self._size.values += 1
                # At once: a batch may bring more than all before it.
                if self._size.values > A_CHUNK * self._size.chunks:
                    changed |= self._split()
            found.append(new)
        for number in sorted(changed):
            self._cells.put(_name(number), bytes(self._chunks[number]))
        return found

    def _split(self) -> set[int]:
        """One more chunk, of values of another."""
        old, new = self._size.splits, self._size.chunks
        everything = bytes(self._chunk(old))
        self._size.chunks += 1
        self._chunks |= {old: bytearray(), new: bytearray()}
        for at in range(0, len(everything), WIDTH):
            value = everything[at : at + WIDTH]
            self._chunks[self._size.chunk_of(value)] += value
        return {old, new}

    def _chunk(self, number: int) -> bytearray:
        if number not in self._chunks:
            self._chunks[number] = bytearray(self._cells.get(_name(number)) or b"")
        return self._chunks[number]


def _name(number: int) -> str:
    return f"o{number}"


def _holds(chunk: bytearray, value: bytes) -> bool:
    at = chunk.find(value)
    while at >= 0 and at % WIDTH:
        at = chunk.find(value, at + 1)
    return at >= 0
