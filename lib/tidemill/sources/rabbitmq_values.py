"""A record's own values as texts and moments, whatever its publisher put there: none may end a stream.

pika takes a number for a moment that no calendar has, and raises while it decodes the frame; so it does with a double that
is no number, and of one with a fraction it keeps the whole part. It offers no place to decode otherwise, so its function is
replaced by one that differs from it in these kinds alone, and only while a reader of ours is at work in that thread.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

_FORMS = {b"T": ">Q", b"d": ">d", b"f": ">f"}
_ours = threading.local()


def moment_of(seconds: int | None) -> datetime | None:
    """A publisher's time stamp; None where it set none, and where no calendar has it (milliseconds, mostly).

    >>> moment_of(1_700_000_000), moment_of(1_700_000_000_000), moment_of(2**62)
    (datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc), None, None)
    """
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def text_of(value: Any) -> str | None:
    """A header's value as a text; tables and lists as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, (bool, dict, list)):
        return json.dumps(_named(value), default=str)
    return str(int(value)) if isinstance(value, int) else str(value)


def _named(value: Any) -> Any:
    if isinstance(value, list):
        return [_named(each) for each in value]
    # A name that is no UTF-8 comes as bytes, which JSON does not take.
    return {text_of(name): _named(each) for name, each in value.items()} if isinstance(value, dict) else value


@contextmanager
def whole_headers(data: Any) -> Iterator[None]:
    """Within it, and in this thread, ``pika.data`` decodes every header, and takes nothing from it.

    A moment that no calendar has is its number; a double is what it is.
    """
    if not isinstance(data.decode_value, _Decoding):
        data.decode_value = _Decoding(data.decode_value)
    before = getattr(_ours, "depth", 0)
    _ours.depth = before + 1
    try:
        yield
    finally:
        _ours.depth = before


class _Decoding:
    def __init__(self, theirs: Callable[[bytes, int], tuple[Any, int]]) -> None:
        self._theirs = theirs

    def __call__(self, encoded: bytes, offset: int) -> tuple[Any, int]:
        form = _FORMS.get(encoded[offset : offset + 1])
        if form is None or not getattr(_ours, "depth", 0):
            return self._theirs(encoded, offset)
        (value,) = struct.unpack_from(form, encoded, offset + 1)
        if form == ">Q":
            value = moment_of(value) or value
        elif value.is_integer():
            value = int(value)
        return value, offset + 1 + struct.calcsize(form)
