"""Publishes files with one log commit: all of it or nothing, once or not at all.

The protocol, for a change that adds files A, removes files R and is identified by (app, version):

1. Refresh. If the log has (app, version) or above, the change is already published: stop.
2. If a file of R is no longer live, someone rewrote what this change was computed from: refuse.
3. Ask the guard (a lease) whether we may still write.
4. Commit on exactly the version that was looked at. If another commit came first, begin again at 1.

Between 1 and 4 nothing is written, so a crash leaves either the old table or the new one; A's files are
invisible until 4. A lost reply to 4 is resolved by 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tidemill.display import words
from tidemill.errors import CommitConflict, PlanError
from tidemill.ledger.facts import Fact, LiveBatch, to_json, with_counts
from tidemill.protocol import Point, passing
from tidemill.sinks.files import DataFile, rows_by_label
from tidemill.sinks.table import AppVersion, Raced
from tidemill.sinks.tables import Table

ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does."""

    add: tuple[DataFile, ...]
    remove: tuple[DataFile, ...]
    fact: Fact
    app: AppVersion
    whole: frozenset[str] = frozenset()
    """Intervals whose live files must be exactly the removed ones (an upsert merges all of an interval)."""


def appended(files: tuple[DataFile, ...], fact: LiveBatch, app: AppVersion) -> Change:
    """A live batch's change that adds its files and takes nothing away."""
    return Change(files, (), with_counts(fact, rows_by_label(files), {}), app)


@dataclass(frozen=True, slots=True)
class Published:
    """``already``: the log held the change before we came. ``retries``: races lost on the way."""

    already: bool
    retries: int


def publish(table: Table, change: Change, guard: Callable[[], None] | None = None) -> Published:
    """Publish ``change`` by the protocol above.

    Raises :class:`CommitConflict` when a file to remove is gone (plan again), or when ``ATTEMPTS`` races
    were lost; :class:`PlanError` when the table is append-only and rows would be taken away; and what
    ``guard`` raises when it forbids the write. Nothing is published then.
    """
    metadata, perhaps_ours = to_json(change.fact), False
    for attempt in range(ATTEMPTS):
        table.refresh()
        done = table.app_version(change.app.app)
        if done is not None and done >= change.app.version:
            return Published(already=not perhaps_ours, retries=attempt)
        if change.remove and table.append_only:
            raise PlanError(
                f"{table.path} is append-only (delta.appendOnly), and rows of it would be replaced",
                next_step="unset the property, or leave the intervals as they are",
                table=table.path,
            )
        if change.remove or change.whole:
            _all_live(table, change)
        if guard is not None:
            guard()
        passing(Point.COMMIT_CHECKED)
        try:
            at = int(time.time() * 1000)
            table.commit(change.add, change.remove, metadata, change.app, at, alone=bool(change.whole))
        except Raced as raced:
            perhaps_ours = raced.perhaps_we
            continue
        passing(Point.COMMITTED)
        table.checkpoint_sometimes()
        return Published(already=False, retries=attempt)
    raise CommitConflict(
        f"{table.path}: {ATTEMPTS} commits by others came first",
        next_step="run it again; if it stays, look for a writer that commits without pause",
        table=table.path,
    )


def _all_live(table: Table, change: Change) -> None:
    live = table.live_files()
    replaced = {file.path for file in change.remove}
    gone = sorted(replaced - live.keys())
    fresh = [f.path for f in live.values() if f.label in change.whole and f.path not in replaced]
    if fresh:
        raise CommitConflict(
            f"{table.path}: {words.count(len(fresh), 'file')} came to an interval since it was read, {fresh[0]} among them",
            next_step="plan again; another writer merged into the interval",
            table=table.path,
            files=len(fresh),
        )
    if gone:
        raise CommitConflict(
            f"{table.path}: {len(gone)} of the files to be replaced are no longer live, {gone[0]} among them",
            next_step="plan again; another backfill or a compaction rewrote them",
            table=table.path,
            files=len(gone),
        )
