"""The engine without one of its guards: what a test of the guard must notice.

The engine has no switch for this: a guard is taken out from outside, in the processes of the test alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from typing import Any
from unittest.mock import patch

from tidemill.config import Project
from tidemill.execution import batch, batch_fact, pins, swap, upkeep
from tidemill.ledger import lease, log
from tidemill.ledger.lease import Lease
from tidemill.sinks import commit, publish
from tidemill.sinks.table import LogTable
from tidemill.sources import kafka_offsets


class Guard(StrEnum):
    """What keeps the law; each can be removed by :func:`without`."""

    APP_TRANSACTION = "application-transaction"
    """A batch or chunk that the log already holds is not published again."""
    STILL_LIVE = "removed-files-live"
    """A swap is refused when a file that it removes is no longer live."""
    ALONE = "nobody-came-between"
    """A swap into an empty interval is refused when another run has filled it."""
    PIN = "pin"
    """A backfill beside a live stream reads what the stream has published, no further."""
    LEASE = "lease"
    """One live driver and one backfill a pipeline; who lost its lease does not publish."""
    QUARANTINE_FIRST = "quarantine-before-table"
    """Bad rows are committed before the batch that they came with."""
    UPKEEP = "upkeep"
    """Upkeep leaves what was staged or replaced within the retention."""
    FINGERPRINT = "fingerprint"
    """An interval that other code wrote is stale."""
    DIRTY_MARKS = "dirty-marks"
    """An interval that got rows too late for the stream's state is dirty."""
    EXCLUSIVE_COMMIT = "exclusive-commit"
    """A version of the log is written once."""
    SAME_TOPIC = "same-topic"
    """A topic that was made anew is not read on by the offsets of the old one."""


@contextmanager
def without(guard: Guard) -> Iterator[None]:
    """Run this process without ``guard``; AttributeError when the engine no longer has what it removes.

    >>> with without(Guard.LEASE):
    ...     Lease("nowhere", "live", what="a test").check()
    """
    with ExitStack() as stack:
        for owner, name, instead in _REMOVALS[guard]:
            stack.enter_context(patch.object(owner, name, instead))
        yield


_files = pins._files  # noqa: SLF001  what is replaced


def _to_the_end(source: Any, checkpoint: str, end: Any, *, live: bool) -> Any:
    del live
    return _files(source, checkpoint, end, live=False)


def _put_over(table: str, version: int, body: str) -> bool:
    commit._path(table, version).write_text(body, encoding="utf-8")  # noqa: SLF001  what is replaced
    return True


def _quarantine_last() -> list[tuple[Any, str, Any]]:
    waiting: list[Callable[[], Any]] = []
    set_aside, publish_ = batch.Batches._set_aside, publish.publish  # noqa: SLF001  what is replaced

    def later(batches: batch.Batches, *arguments: Any) -> Any:
        waiting.append(lambda: set_aside(batches, *arguments))
        fact, *_ = arguments
        return fact

    def first(*arguments: Any) -> Any:
        published = publish_(*arguments)
        while waiting:
            waiting.pop()()
        return published

    return [(batch.Batches, "_set_aside", later), (batch, "publish", first)]


_REMOVALS: Mapping[Guard, list[tuple[Any, str, Any]]] = {
    Guard.APP_TRANSACTION: [(LogTable, "app_version", lambda _table, _app: None)],
    Guard.STILL_LIVE: [(publish, "_all_live", lambda _table, _change: None)],
    Guard.ALONE: [(swap, "alone", lambda _pipeline, _manifest, guard, **_more: guard or (lambda: None))],
    Guard.PIN: [(pins, "_files", _to_the_end)],
    Guard.LEASE: [(Lease, "check", lambda _lease: None), (lease, "gone", lambda _holder, _now: True)],
    Guard.QUARANTINE_FIRST: _quarantine_last(),
    Guard.UPKEEP: [
        (upkeep, "newest", lambda _folder: 0.0),
        (log, "removed_since", lambda _table, _at: set()),
    ],
    Guard.FINGERPRINT: [(Project, "code", lambda _project, _name: "0" * 16)],
    Guard.DIRTY_MARKS: [(batch_fact, "late", lambda *_of_a_batch: ())],
    Guard.EXCLUSIVE_COMMIT: [
        (commit, "put", _put_over),
        (commit, "is_newest", lambda _table, _version: True),
    ],
    Guard.SAME_TOPIC: [(kafka_offsets, "check_same", lambda _source, _known, _now: None)],
}
"""What takes a guard's place: the owner of a name, the name, and what it means instead."""
