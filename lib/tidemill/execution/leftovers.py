"""What a paced replay keeps beside its table while it runs, and what is left of it when its process dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidemill.clock import Clock
from tidemill.ledger.lease import Lease
from tidemill.storage import on_a_store, remove_tree

STATE, READ, SORTED, FEED = "_tidemill", "read", "sorted", "feed"
"""A folder in the table's, and in it the events as they were read, in their order, and the files that the stream is handed."""
_TELLING = (READ, SORTED, FEED)


def unfinished(path: str) -> bool:
    """Whether a paced replay into this table is under way, or died."""
    return not on_a_store(path) and any((Path(path) / STATE / each).exists() for each in _TELLING)


@contextmanager
def alone(path: str, what: str, clock: Clock) -> Iterator[None]:
    """While nobody else replays into a table at a pace. Takes away what one that died has left, its rows too, and at the end
    all but the table. Raises :class:`LeaseHeld` where one is under way.
    """
    state = Path(path) / STATE
    with Lease(str(state), "replay", what=what, clock=clock):
        try:
            if unfinished(path):
                for each in Path(path).iterdir():
                    if each != state:
                        remove_tree(each)
                remove_tree(Path(f"{path}_quarantine"))
                _empty(state)
            yield
        finally:
            _empty(state)
    remove_tree(state)
    with suppress(OSError):
        Path(path).rmdir()  # where nothing was written


def _empty(state: Path) -> None:
    # Those last that say that there is something to take away.
    for each in sorted(state.iterdir(), key=lambda each: each.name in _TELLING):
        if each.is_dir():
            remove_tree(each)
