"""The named points of the publish and swap protocols, each with the state that a crash there leaves.

The engine says where it is with ``passing(Point.X)``. Nobody listens, unless a test does: see
:mod:`tidemill.testing`, which kills the process there, or holds it until another has done its part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class Point(StrEnum):
    """Where a live batch, a swap or upkeep stands."""

    OFFSETS_WRITTEN = "offsets-written"
    """Live. Spark has written what the batch reads, and nothing else has been done. The next start runs the batch."""

    FILES_STAGED = "files-staged"
    """Live. The batch's files lie under the table's root and Spark's state of the batch is written; no commit names
    them. The next start stages anew; upkeep removes the old files."""

    BAD_ROWS_SET_ASIDE = "bad-rows-set-aside"
    """Live. The quarantine holds the batch's bad rows, under its number; the table does not hold the batch. The next
    start puts what its rules set aside of the batch in their place."""

    SEED_PLANTED = "seed-planted"
    """Live, of an event store. Where aggregates stand by their events is written; the stream does not know of it. The next
    start does it again."""

    REFUSALS_COPIED = "refusals-copied"
    """Live, of an event store, after COMMITTED. The files of the batch's refusals lie below the table of rejections; no
    commit there names them. The next start commits them."""

    PLAN_SAVED = "plan-saved"
    """Backfill. The run's folder holds what is intended. ``resume`` does it."""

    BAD_ROWS_SETTLED = "bad-rows-settled"
    """Backfill without a live stream. The quarantine holds the bad rows of all the pinned input; done again, it is
    the same."""

    CHUNK_STAGED = "chunk-staged"
    """Backfill. The chunk's files are written, and nothing names them. ``resume`` computes the chunk again."""

    MANIFEST_SAVED = "manifest-saved"
    """Backfill. The run's folder names the chunk's files; the table does not. ``publish`` swaps them in, ``resume``
    computes them again."""

    GATE_PASSED = "gate-passed"
    """Backfill. As MANIFEST_SAVED, and the gate has judged."""

    QUARANTINE_SETTLED = "quarantine-settled"
    """Backfill. The quarantine holds what today's rules set aside of the chunk's intervals; the table holds the old rows,
    and the ledger calls the intervals what it called them before. ``resume`` and ``publish`` do both again, ``undo`` puts back
    what stood; of provisional rows the live stream does, when it starts."""

    CHUNK_UNDONE = "chunk-undone"
    """Undo. The table holds what it held before the chunk; the quarantine holds what the chunk set aside. ``undo`` again puts
    that back, and so does who computes the chunk again, before it does."""

    STATES_KEPT = "states-kept"
    """Live and backfill, of a fold that carries states. The table of states holds those of the batch or the chunk, under a
    name that no commit of the sink's table says yet. Who tries again puts others in their place."""

    STATES_FORGOTTEN = "states-forgotten"
    """Backfill. The table of states no longer holds those that the swap has replaced. Before, it held both, and the sink's
    log says which count; upkeep takes away what nothing names."""

    SEED_SOWN = "seed-sown"
    """Restart. What the stream is to begin anew with lies in a folder that nothing names. The stream goes on as before; the
    next restart makes it again."""

    COMMIT_CHECKED = "commit-checked"
    """Any publish. Every check has passed, nothing is written. A commit by another sends it back to the first check."""

    COMMIT_WRITTEN = "commit-written"
    """Any publish by log commit. The commit's text lies in the log's folder under a name that is no version; no reader
    sees it. Upkeep removes it."""

    COMMITTED = "committed"
    """Any publish. The log holds the change. Live: Spark's own commit log does not yet hold the batch; the next start
    finds it published. Backfill: ``resume`` finds the chunk done."""

    BATCH_PUBLISHED = "batch-published"
    """Live. As COMMITTED, and the index may be up to date."""

    ROWS_SENT = "rows-sent"
    """Live, with a topic. The topic holds the rows of one more commit; what is noted as sent does not. The next start sends
    them again, under the same ids."""

    CHUNK_SWAPPED = "chunk-swapped"
    """Backfill. The chunk is done, and the next not begun."""

    NOT_YET_IN_PLACE = "not-yet-in-place"
    """Index, plan or manifest. The new text is written under another name; readers see the old file, or none."""

    INDEX_REFRESHED = "index-refreshed"
    """Upkeep. The index holds all that the log says; nothing was cleaned."""

    EXPIRED = "expired"
    """Upkeep. Intervals that the sink does not retain any more are gone from the table, and its log says so."""

    STATES_DRAWN = "states-drawn"
    """Upkeep, of a fold that carries states. The oldest are drawn together at one end; files that went are still on disk."""

    COMPACTED = "compacted"
    """Upkeep. An interval's rows lie in fewer files; the old ones are still on disk."""

    LOG_CHECKPOINTED = "log-checkpointed"
    """Upkeep. The log has a checkpoint at its end; nothing was vacuumed."""

    VACUUMED = "vacuumed"
    """Upkeep. Files that nothing has needed for the retention are gone; what crashed runs left is not."""

    LOG_FILE_CLEANED = "log-file-cleaned"
    """Upkeep. One more of the log's oldest files is gone. What is left has no gap; the index holds what it said."""


_listener: Callable[[Point], None] | None = None


def passing(point: Point) -> None:
    """Tell the listener, if there is one, that this process is at ``point``."""
    if _listener is not None:
        _listener(point)


@contextmanager
def listening(listener: Callable[[Point], None]) -> Iterator[None]:
    """Have ``listener`` called at each point that this process reaches, in the thread that reaches it.

    >>> seen = []
    >>> with listening(seen.append):
    ...     passing(Point.COMMITTED)
    >>> passing(Point.COMMITTED)
    >>> [point.value for point in seen]
    ['committed']
    """
    global _listener  # noqa: PLW0603  one process, one listener
    former, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = former
