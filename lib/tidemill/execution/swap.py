"""The surgical swap: stage intervals, compare, judge, and publish in one commit; and a chunk back again.

Each step leaves the table whole. A crash while staging leaves files that no reader sees; between the
manifest and the commit, a manifest that ``resume`` or ``publish`` can use; after the commit, a swap that
its application transaction keeps from happening twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pyspark.sql import SparkSession
from pyspark.sql import types as T

from tidemill.errors import PlanError
from tidemill.execution.recompute import output
from tidemill.execution.runs import Aside, Manifest, Snapshots
from tidemill.execution.snapshots import NO_END, forget, kept, of_chunk
from tidemill.execution.snapshots import publish as keep_states
from tidemill.execution.standing import alone
from tidemill.folds.carry import STATE
from tidemill.folds.planting import Sowing
from tidemill.intervals import Interval
from tidemill.ledger import index
from tidemill.ledger.beside import Taken
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import IntervalResult, Undo
from tidemill.ledger.facts import Swap as SwapFact
from tidemill.ledger.verdicts import Verdict
from tidemill.model import Pipeline
from tidemill.planning.plan import Chunk, Pin, Plan
from tidemill.quality.watch import OUTPUT, Watched
from tidemill.sinks import stage
from tidemill.sinks.content import Content, Difference, contents, difference, read_files
from tidemill.sinks.files import DataFile, rows_by_label
from tidemill.sinks.publish import Change, Published, publish
from tidemill.sinks.rows import stage_rows
from tidemill.sinks.table import AppVersion
from tidemill.sinks.tables import Table
from tidemill.sinks.target import of_log_commits, open_table
from tidemill.view import shape_of

Guard = Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found: each interval's result, and the difference where there is one."""

    results: Mapping[str, IntervalResult]
    difference: Difference


@dataclass(frozen=True, slots=True)
class Staged:
    """A chunk's files, written and unpublished, and the files that stand in their place at the pin."""

    pin: Pin
    table: Table
    schema: T.StructType
    files: tuple[DataFile, ...]
    stands: tuple[DataFile, ...]
    verdicts: tuple[Verdict, ...]
    watched: Watched
    aside: tuple[DataFile, ...] = ()
    """Files with rows that rules of the table set aside."""
    snapshots: Snapshots | None = None
    """The states at the intervals' ends, of a fold that carries them."""
    sowing: Sowing | None = None
    """Of a restart, what the stream can begin anew with."""
    beside: Taken = field(default_factory=dict)
    """What was known before it was read of persons taken out of tables that are read whole."""

    def discard(self) -> None:
        """Delete what was staged; nothing names it, and nothing will."""
        self.table.discard((*self.files, *self.aside))


def stage_chunk(
    spark: SparkSession,
    pipeline: Pipeline,
    pin: Pin,
    intervals: tuple[Interval, ...],
    root: str,
    whose: str | None = None,
) -> Staged:
    """Compute intervals over the pinned input and write their files; nothing is published.

    ``whose``: the name of states that are to be kept; None where they are only looked at.

    Makes the table when there is none. Raises :class:`StateError` when the output does not fit it.
    """
    watched = Watched.of(pipeline)
    sowing = None if pin.reached is None else Sowing(pin.reached * 1000)
    whole, begun = output(spark, pipeline, pin, intervals, root, watched, sowing)
    if begun is not None:
        of_log_commits(pipeline.table.path, f"{pipeline.name} carries states")
    frame = whole.drop(STATE)
    table = open_table(frame, pipeline)
    stage.check_rules(table, pipeline)
    if pin.version < 0:
        pin = replace(pin, version=table.version)
    staged, states = stage.without_states(stage_rows(table, watched.output(whole), pipeline))
    files, aside = stage.parted(staged)
    labels = {interval.label for interval in intervals}
    stands = tuple(file for file in table.files_at(pin.version).values() if file.label in labels)
    snapshots = None
    if begun is not None and sowing is not None:
        snapshots = NO_END
    elif begun is not None:
        coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
        kind = whole.schema[STATE].dataType
        found = kept(spark, pipeline, table, states, kind, whose)
        snapshots = of_chunk(pipeline, begun.digest, intervals, found, coverage)
    table.discard(states)
    return Staged(
        pin, table, frame.schema, files, stands, watched.verdicts(), watched, aside, snapshots, sowing
    )


def diff_chunk(
    spark: SparkSession,
    pipeline: Pipeline,
    chunk: Chunk,
    staged: Staged,
    coverage: Coverage,
    plan: Plan,
    run: str,
    quarantined: int | None = None,
    aside: Aside | None = None,
) -> Manifest:
    """Compare a staged chunk with the table; what is equal is left as it stands."""
    labels = [interval.label for interval in chunk.intervals]
    known = known_hashes(coverage, staged.pin, set(labels))
    compared = compare(spark, pipeline, staged, known)
    results = {label: compared.results.get(label, IntervalResult(rows=0)) for label in labels}
    equal = {label for label, each in results.items() if not (each.added or each.removed)}
    found = staged.watched.left_out(OUTPUT)
    return Manifest(
        run=run,
        chunk=chunk.number,
        fingerprint=plan.fingerprint,
        pin=staged.pin.version,
        source_end=dict(staged.pin.source_end),
        provisional=plan.provisional,
        labels=tuple(labels),
        staged=tuple(file for file in staged.files if file.label not in equal),
        replaced=tuple(file for file in staged.stands if file.label not in equal),
        results=results,
        samples=compared.difference.samples,
        changed=compared.difference.changed,
        attempt=_attempt(staged.files),
        quarantined=quarantined,
        verdicts=staged.verdicts,
        aside=aside,
        left_out=(found.quarantined, found.dropped),
        snapshots=staged.snapshots,
        beside=staged.beside,
        opened=pipeline.holds_opened,
    )


def _attempt(files: tuple[DataFile, ...]) -> str:
    # Spark's writer has no folder for each attempt: its files lie among the live ones.
    return files[0].path.partition("/")[0] if files and files[0].action is None else ""


def known_hashes(coverage: Coverage, pin: Pin, labels: set[str]) -> dict[str, Content]:
    """Content hashes that the ledger already has for what the table holds at the pin."""
    known = {}
    for label in labels:
        each = coverage.intervals.get(label)
        if each is not None and each.hash is not None and each.version <= pin.version == coverage.version:
            known[label] = Content(each.rows, each.hash)
    return known


def compare(
    spark: SparkSession,
    pipeline: Pipeline,
    chunk: Staged,
    known: Mapping[str, Content],
) -> Compared:
    """Compare staged files with those that stand.

    Rows are hashed only where both sides have equally many, and compared one by one only where hashes differ or
    counts do. Where nothing stood, or nothing is to stand, there is nothing to compare, and no row is read again.
    """
    table, staged, stands = chunk.table, chunk.files, chunk.stands
    plain = T.StructType([T.StructField(f.name, f.dataType, nullable=True) for f in chunk.schema.fields])
    new_rows, old_rows = rows_by_label(staged), rows_by_label(stands)
    alike = {label for label, rows in new_rows.items() if rows and rows == old_rows.get(label)}

    def hashed(files: tuple[DataFile, ...], labels: set[str]) -> dict[str, Content]:
        some = [file for file in files if file.label in labels]
        return contents(read_files(spark, pipeline, table, some, plain), plain.fields) if some else {}

    fresh = hashed(staged, alike)
    old = {**known, **hashed(stands, alike - known.keys())}
    equal = {label for label in alike if label in fresh and fresh[label] == old.get(label)}
    unequal = (new_rows.keys() | old_rows.keys()) - equal
    both = {label for label in unequal if new_rows.get(label) and old_rows.get(label)}
    found = Difference({}, {}, {}, ())
    if both:
        found = difference(
            read_files(spark, pipeline, table, [f for f in staged if f.label in both], plain),
            read_files(spark, pipeline, table, [f for f in stands if f.label in both], plain),
            pipeline,
            plain.fields,
        )
    one_sided = unequal - both
    added = {**found.added, **{label: new_rows[label] for label in one_sided if new_rows.get(label)}}
    removed = {**found.removed, **{label: old_rows[label] for label in one_sided if old_rows.get(label)}}
    results = {
        label: IntervalResult(
            rows=new_rows.get(label, 0),
            hash=fresh[label].hash if label in fresh else None,
            added=added.get(label, 0),
            removed=removed.get(label, 0),
        )
        for label in new_rows.keys() | old_rows.keys()
    }
    return Compared(results, replace(found, added=added, removed=removed))


def swap_app(pipeline: Pipeline, run: str, chunk: int) -> str:
    """The application id of a chunk's swaps: odd versions publish it, even ones take it back."""
    return f"tidemill/{pipeline.name}/{run}/{chunk}"


def is_published(pipeline: Pipeline, table: Table, manifest: Manifest) -> bool:
    """Whether a chunk is published, and not taken back, as the table is now."""
    table.refresh()
    return (table.app_version(swap_app(pipeline, manifest.run, manifest.chunk)) or 0) % 2 == 1


def swap_chunk(
    pipeline: Pipeline,
    table: Table,
    manifest: Manifest,
    guard: Guard = None,
    forced: str | None = None,
    settle: Callable[[], None] | None = None,
    erased: tuple[str, ...] = (),
) -> Published:
    """Publish a staged chunk; nothing happens when it is published already.

    ``forced``: why the gate's refusal is overridden, where it is. ``settle`` is called when every check has passed, right
    before the commit, again for each attempt. ``erased``: the intervals out of which this takes an erased person.

    Raises :class:`CommitConflict` when a file it replaces is no longer live, or another run has filled an interval that it
    found empty: plan again; :class:`PlanError` when a file that it staged is gone.
    """
    if is_published(pipeline, table, manifest):
        return Published(already=True, retries=0)
    app = swap_app(pipeline, manifest.run, manifest.chunk)
    version = table.app_version(app) or 0
    _all_there(
        table,
        manifest.staged,
        f"run {manifest.run} cannot be published: of the files it staged",
        manifest.run,
    )
    once, fact = AppVersion(app, version + 1), _told(manifest, pipeline, forced, erased)
    changed = {file.label for file in (*manifest.staged, *manifest.replaced)}
    whole = frozenset(changed) if pipeline.table.mode == "upsert" else frozenset[str]()
    change = Change(manifest.staged, manifest.replaced, fact, once, whole=whole)
    check = alone(pipeline, manifest, guard)

    def ready() -> None:
        check()
        if settle is not None:
            settle()
        if manifest.snapshots is not None:
            keep_states(pipeline, manifest.snapshots.name, manifest.snapshots.files, whose(manifest))

    published = publish(table, change, ready)
    if manifest.snapshots is not None:
        forget(pipeline, manifest.snapshots)
    return published


def _told(manifest: Manifest, pipeline: Pipeline, forced: str | None, erased: tuple[str, ...]) -> SwapFact:
    """What the commit says of itself."""
    return SwapFact(
        pipeline=pipeline.name,
        run=manifest.run,
        chunk=manifest.chunk,
        fingerprint=manifest.fingerprint,
        pin=manifest.pin,
        source_end=manifest.source_end,
        intervals=manifest.results,
        changed=bool(manifest.staged or manifest.replaced),
        provisional=manifest.provisional,
        quarantined=manifest.quarantined,
        verdicts=manifest.verdicts,
        forced=forced,
        left_out=manifest.left_out,
        carries=manifest.snapshots is not None,
        states=manifest.snapshots.states if manifest.snapshots else {},
        seed=manifest.seed,
        beside=manifest.beside,
        erased=erased,
        opened=manifest.opened or pipeline.holds_opened,
    )


def whose(manifest: Manifest) -> str:
    """How the names of a chunk's states begin."""
    return f"{manifest.run}-{manifest.chunk}"


def _all_there(table: Table, files: tuple[DataFile, ...], what: str, run: str) -> None:
    gone = table.lost(files)
    if gone:
        raise PlanError(
            f"{what} {len(gone)} are gone, vacuumed or deleted",
            next_step="backfill the intervals with the code you want",
            run=run,
        )


def undo_chunk(pipeline: Pipeline, table: Table, manifest: Manifest, guard: Guard = None) -> bool:
    """Take a published chunk back; False when it is not published.

    Raises :class:`CommitConflict` when its files were rewritten since, :class:`PlanError` when the files
    it replaced were vacuumed.
    """
    if not is_published(pipeline, table, manifest):
        return False
    app = swap_app(pipeline, manifest.run, manifest.chunk)
    version = table.app_version(app) or 0
    _all_there(
        table,
        manifest.replaced,
        f"run {manifest.run} cannot be undone: of the files it replaced",
        manifest.run,
    )
    before, after = rows_by_label(manifest.replaced), rows_by_label(manifest.staged)
    # What was found equal was left as it stood; a provisional swap is taken back in all its intervals, and so is the
    # quarantine.
    every = manifest.provisional or (manifest.aside is not None and manifest.aside.changes)
    labels = manifest.labels if every else sorted(before.keys() | after.keys())
    change_of = {label: before.get(label, 0) - after.get(label, 0) for label in labels}
    fact = Undo(pipeline.name, manifest.run, manifest.chunk, change_of)
    whole = frozenset(after) if pipeline.table.mode == "upsert" else frozenset[str]()
    publish(
        table,
        Change(manifest.replaced, manifest.staged, fact, AppVersion(app, version + 1), whole=whole),
        alone(pipeline, manifest, guard, undoing=True),
    )
    return True
