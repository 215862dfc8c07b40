"""Brings what an event store refused to its table of rejections, and sees to it that both tables are whole.

The commit of a batch's events names the folder of its refusals. Their files are copied to the table of rejections, and committed
there under the batch's number: at once by the stream, and by the next start where a crash came first.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tidemill.clock import Clock
from tidemill.errors import LeaseHeld, StateError
from tidemill.ledger import index, log
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import Foreign, LiveBatch
from tidemill.ledger.lease import Lease
from tidemill.model import Pipeline
from tidemill.protocol import Point, passing
from tidemill.sinks import stage
from tidemill.sinks.files import rows_by_label
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.table import AppVersion, LogTable, look
from tidemill.storage import place, remove_tree, walk
from tidemill.view import shape_of

Guard = Callable[[], None]


def deliver(pipeline: Pipeline, guard: Guard) -> None:
    """Bring the last published batch's refusals to their table, where a crash came first. No JVM.

    ``guard``: says that nobody else does; a stream may be at it.
    """
    if not pipeline.recorded or not log.exists(pipeline.table.path):
        return
    fact = last_batch(pipeline)
    if fact is None:
        return
    check_rejections(pipeline)
    if fact.refused is not None:
        bring(pipeline, LogTable(pipeline.rejections_path, pipeline.grain), fact, guard)


def check_rejections(pipeline: Pipeline) -> None:
    """Raise :class:`StateError` where a store has decided, and its table of rejections is not there. No JVM."""
    store, refused = pipeline.table.path, pipeline.rejections_path
    if log.exists(store) and not log.exists(refused) and last_batch(pipeline) is not None:
        raise StateError(
            f"{pipeline.name}: {store} holds what was decided, and {refused} is not there: what was refused is not known",
            next_step="restore it beside the store; without it refused commands would be decided again",
            table=refused,
        )


def deliver_if_idle(pipeline: Pipeline, clock: Clock | None = None) -> None:
    """As :func:`deliver`, unless a stream runs: it has done so, or does. Raises as :func:`check_rejections`."""
    if not pipeline.recorded or not log.exists(pipeline.table.path):
        return
    check_rejections(pipeline)
    fact = last_batch(pipeline)
    # The folder goes when its files were brought; then no lease is taken, which a start would meet.
    if fact is None or fact.refused is None or not (Path(pipeline.table.path) / fact.refused).is_dir():
        return
    try:
        with Lease(pipeline.table.state_path, "live", what="bringing rejections", clock=clock) as lease:
            deliver(pipeline, lease.check)
    except LeaseHeld:
        return


def bring(pipeline: Pipeline, table: LogTable, fact: LiveBatch, guard: Guard) -> None:
    """Bring the refusals of a published batch to their table, once."""
    table.refresh()
    app = AppVersion(f"tidemill/{pipeline.name}/{fact.query}/rejections", fact.batch)
    done = table.app_version(app.app)
    root, folder = Path(pipeline.table.path), str(fact.refused)
    if done is None or done < fact.batch:
        attempt = folder.partition("/")[0]
        for file in walk(root / folder):
            target = Path(table.path) / attempt / file.path
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
                shutil.copyfile(root / folder / file.path, hidden)
                hidden.replace(target)
        moved = pipeline.model_copy(
            update={
                "sink": pipeline.sink.model_copy(
                    update={"delta": pipeline.table.model_copy(update={"path": table.path})}
                )
            }
        )
        files = stage.measure(moved, attempt, table.schema)
        if not files:
            raise StateError(
                f"{root / folder} holds the rejections of batch {fact.batch}, and is empty",
                next_step="restore it from a backup; without it these commands have no outcome",
                folder=folder,
            )
        passing(Point.REFUSALS_COPIED)
        counted = replace(fact, added=rows_by_label(files), removed={}, reached=(), refused=None)
        publish(table, Change(files, (), counted, app), guard)
    remove_tree(place(str(root / folder)))


def last_batch(pipeline: Pipeline, version: int | None = None) -> LiveBatch | None:
    """The fact of the newest live batch in the store's log, up to ``version``; few commits by others follow it."""
    path = pipeline.table.path
    last = version if version is not None else log.last_version(path) or 0
    while (commit := log.commit_at(path, last, pipeline.grain)) is not None:
        if isinstance(commit.fact, LiveBatch):
            return commit.fact
        last -= 1
    return None


@dataclass
class Whole:
    """Watches that a table of facts only grows: an older one that was restored says other things than the stream's states."""

    table: LogTable
    version: int

    @classmethod
    def of(cls, table: LogTable, coverage: Coverage) -> Whole:
        """Raises :class:`StateError` where fewer rows are there than ``coverage`` says that batches have written."""
        written = sum(each.rows for each in coverage.intervals.values())
        counts = look(table.path).get_add_actions(flatten=True)["num_records"].to_pylist()
        # Files by others may say nothing of their rows.
        if None not in counts and sum(counts) < written:
            raise _taken(table.path, f"holds {sum(counts)} rows, and its batches have written {written}")
        return cls(table, table.version)

    def check(self) -> None:
        """Raise :class:`StateError` where somebody has taken rows away since. The table is as of its last refresh.

        A commit that upkeep has cleaned from the log is passed over: the next start counts.
        """
        for version in range(self.version + 1, self.table.version + 1):
            commit = log.commit_at(self.table.path, version, self.table.grain)
            if commit is not None and isinstance(commit.fact, Foreign) and commit.fact.replaced:
                raise _taken(
                    self.table.path, f"has lost rows, by {commit.fact.operation} at version {version}"
                )
        self.version = self.table.version


def _taken(path: str, what: str) -> StateError:
    return StateError(
        f"{path} {what}: somebody has deleted or restored; what was decided stays, and a stream would go on from what is not "
        "there any more",
        next_step=f"put it back: DESCRIBE HISTORY delta.`{path}` shows the version before, RESTORE TABLE brings it",
        table=path,
    )


def coverage_of_refusals(pipeline: Pipeline) -> Coverage:
    """What the log of the table of rejections says of it; kept beside the store's own index."""
    return index.refresh(
        pipeline.rejections_path, f"{pipeline.table.state_path}/rejections", shape_of(pipeline)
    )
