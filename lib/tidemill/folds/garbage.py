"""Python's search for cyclic garbage, while rows are stepped: seldom, for it goes through all rows at hand each time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 200_000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """In here, a search for garbage begins after so many new objects, not 700: a fifth of a row's cost."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
