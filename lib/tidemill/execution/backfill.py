"""Executes a plan: chunk by chunk, stage, diff, gate, swap. The first interpreter of a plan's steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TypeVar, assert_never

from pyspark.sql import SparkSession

from tidemill.config import Project
from tidemill.display.runs import done_html
from tidemill.errors import CommitConflict, PlanError, QualityError, UnreadableFile
from tidemill.execution import seeds, swap, unreadable
from tidemill.execution.convergence import check_order, converged, reached
from tidemill.execution.failures import explained
from tidemill.execution.gate import let_pass, with_nulls
from tidemill.execution.pins import pin_now
from tidemill.execution.quarantine import set_aside_history
from tidemill.execution.rules import judged_as_written
from tidemill.execution.runs import Aside, Manifest, RunFolder
from tidemill.execution.sagas import check_not_asked
from tidemill.execution.same_keys import check_keys
from tidemill.execution.session import session_of
from tidemill.execution.settle import settle, stage_aside
from tidemill.execution.taken import taken_out
from tidemill.execution.tries import Tries, ask_to_wait
from tidemill.ledger import index
from tidemill.ledger.judge import State
from tidemill.model import Pipeline
from tidemill.planning.plan import (
    Carry,
    CheckGate,
    Chunk,
    Converge,
    Diff,
    Pin,
    Plan,
    Sow,
    Stage,
    Swap,
    to_json,
)
from tidemill.protocol import Point, passing
from tidemill.quality.hidden import without_opened
from tidemill.storage import local_path
from tidemill.view import look, shape_of

_ATTEMPTS = 5
_T = TypeVar("_T")
Progress = Callable[[str, Chunk], None]


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """What became of one chunk: ``swapped``, ``equal``, ``staged``, ``already``, ``empty``, or ``converged``: not needed.

    ``forced``: why it was published though the gate refused it. ``erased``: the intervals out of which it took what was left of
    an erased person: there is no way back.
    """

    chunk: int
    outcome: str
    manifest: Manifest | None
    retries: int = 0
    forced: str | None = None
    erased: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What a backfill did.

    Of a pipeline that carries states without bound: ``converged`` is the interval from whose end on they are as they were,
    ``untouched`` how many planned intervals were not computed for that; ``astray`` says why the stream's own states are not
    those of the table.
    """

    run: str
    pipeline: str
    chunks: tuple[ChunkDone, ...]
    refused: QualityError | None = None
    converged: str | None = None
    untouched: int = 0
    astray: str | None = None

    @property
    def quarantined(self) -> int | None:
        """Bad rows in all the input that was read; None where a live stream counts them."""
        manifests = [each.manifest for each in self.chunks if each.manifest is not None]
        return manifests[-1].quarantined if manifests else None

    def _repr_html_(self) -> str:
        return done_html(self)


@dataclass(slots=True)
class Job:
    """One backfill under way: what is the same for all its chunks."""

    spark: SparkSession
    project: Project
    plan: Plan
    run: str
    stage_only: bool = False
    forced: str | None = None
    guard: Callable[[], None] | None = None
    progress: Progress = lambda _step, _chunk: None
    at_once: int = 1
    settled: tuple[int, int] | None = None
    settling: threading.Lock = field(default_factory=threading.Lock)

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that is backfilled."""
        return self.project.pipeline(self.plan.pipeline)

    @property
    def folder(self) -> RunFolder:
        """Where the run keeps its plan and manifests."""
        return RunFolder(self.pipeline.table.state_path, self.run)

    def set_aside(self, pin: Pin, chunk: Chunk) -> int | None:
        """Bring the quarantine up to the pin, once a pin; give its rows. None where a live stream does it."""
        if pin.live:
            return None
        with self.settling:
            # Pins only grow. A chunk at an older one than another's, which was planned again, must not go back.
            if self.settled is None or pin.version > self.settled[0]:
                self.progress("look for bad rows", chunk)
                read = {name: each.read for name, each in pin.inputs.items()}
                self.settled = pin.version, set_aside_history(self.spark, self.pipeline, read, self.run)
                passing(Point.BAD_ROWS_SETTLED)
            return self.settled[1]


def execute(job: Job) -> Done:
    """Carry out a plan, ``job.at_once`` chunks at a time, begun in the plan's order.

    A gate's refusal ends the run after the chunks that are under way; what was published stays published.
    Raises :class:`CommitConflict` when a chunk lost its race five times; the run can be resumed. :class:`StateError` where keys
    of persons are lost.
    """
    check_order(job.plan, job.at_once)
    check_keys(job.pipeline)
    if not job.folder.begun:  # a run that is resumed does what is left of it; its chunks keep their numbers
        job.folder.save_plan(to_json(job.plan))
    passing(Point.PLAN_SAVED)
    job.spark = session_of(job.spark, job.pipeline)
    done, refused = _chunks(job)
    shape = shape_of(job.pipeline)
    index.refresh(job.pipeline.table.path, job.pipeline.table.state_path, shape)
    found = Done(job.run, job.plan.pipeline, done, refused)
    return found if job.plan.asked is None else reached(found, job.plan, look(job.project, job.plan.pipeline))


_Result = tuple[tuple[ChunkDone, ...], QualityError | None]


def _chunks(job: Job) -> _Result:
    if job.at_once == 1:
        return _in_turn(job, job.plan.chunks)
    # One chunk alone first where there is no table yet: it makes it.
    first = 1 if job.plan.pin.version < 0 else 0
    done, refused = _in_turn(job, job.plan.chunks[:first])
    if refused is not None:
        return done, refused
    more, refused = _at_once(job, job.plan.chunks[first:])
    return done + more, refused


def _in_turn(job: Job, chunks: Sequence[Chunk]) -> _Result:
    done: list[ChunkDone] = []
    for chunk in chunks:
        try:
            done.append(_explained_chunk(job, chunk))
        except QualityError as error:
            return tuple(done), error
        # A chunk begins with the states that the one before it has published.
        if done[-1].outcome == "converged" or (done[-1].outcome == "staged" and job.plan.asked is not None):
            break
    return tuple(done), None


def _at_once(job: Job, chunks: Sequence[Chunk]) -> _Result:
    done: list[ChunkDone] = []
    refused: QualityError | None = None
    with ThreadPoolExecutor(job.at_once) as pool:
        running = [pool.submit(_explained_chunk, job, chunk) for chunk in chunks]
        try:
            for each in running:
                try:
                    done.append(each.result())
                except QualityError as error:
                    refused = refused or error
                    pool.shutdown(wait=False, cancel_futures=True)
                except CancelledError:
                    continue
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return tuple(done), refused


def _explained_chunk(job: Job, chunk: Chunk) -> ChunkDone:
    while True:
        before = unreadable.listed(job.pipeline)
        try:
            return _chunk(job, chunk)
        except (CommitConflict, PlanError, QualityError):
            raise
        except Exception as error:
            found = explained(error, job.pipeline)
            if not isinstance(found, UnreadableFile) or not _goes_on_without(job, chunk, found, before):
                raise found from error


def _goes_on_without(job: Job, chunk: Chunk, error: UnreadableFile, before: set[str]) -> bool:
    """Set a file aside, if no chunk beside has; not where a live stream runs: what it has read must stay readable."""
    if job.plan.pin.live:
        return False
    with job.settling:
        if local_path(str(error.params["file"])) in unreadable.listed(job.pipeline) - before:
            return True
        if not unreadable.set_aside(job.spark, job.pipeline, error, job.run):
            return False
        job.settled = None
    job.progress(f"set aside {error.params['file']}, which cannot be read;", chunk)
    return True


def _chunk(job: Job, chunk: Chunk) -> ChunkDone:
    pin, remaining, tries = job.plan.pin, chunk, Tries()
    with ExitStack() as holding:
        for attempt in range(_ATTEMPTS):
            try:
                done = _attempt(job, remaining, pin, tries)
            except CommitConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
                if job.guard is not None:
                    job.guard()
                job.progress("lost a race; planning again", chunk)
                if pin.live and attempt < 2 and job.pipeline.table.mode == "upsert":
                    ask_to_wait(job, tries, attempt, holding)
                again = _replan(job, remaining)
                if again is None:
                    return ChunkDone(chunk.number, "already", None, attempt + 1)
                if again[1].intervals != remaining.intervals:
                    tries.staged = None
                pin, remaining = again
                continue
            return replace(done, retries=done.retries + attempt)
    raise AssertionError  # the last attempt returned or raised


def _attempt(job: Job, chunk: Chunk, pin: Pin, tries: Tries) -> ChunkDone:
    pipeline = job.pipeline
    coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
    staged: swap.Staged | None = None
    manifest: Manifest | None = None
    bad: int | None = None
    forced: str | None = None
    for step in chunk.steps:
        match step:
            case Converge():
                if converged(look(job.project, pipeline.name), chunk):
                    return ChunkDone(chunk.number, "converged", None)
            case Carry():
                job.progress("carry states through", chunk)
            case Stage(intervals):
                bad = job.set_aside(pin, chunk)
                job.progress("stage", chunk)
                staged = tries.stage(job, pin, intervals, f"{job.run}-{chunk.number}")
                check_keys(pipeline, note=False)
                passing(Point.CHUNK_STAGED)
                check_order(job.plan, job.at_once, carries=staged.snapshots is not None)
                staged = judged_as_written(job.spark, pipeline, staged)
            case Diff():
                job.progress("diff", chunk)
                aside = _stage_aside(job, chunk, _made(staged))
                manifest = swap.diff_chunk(
                    job.spark, pipeline, chunk, _made(staged), coverage, job.plan, job.run, bad, aside
                )
                manifest = with_nulls(pipeline, _made(staged).table, manifest)
                manifest = replace(manifest, samples=without_opened(pipeline, manifest.samples))
                job.folder.save(manifest)
                tries.tidy()
                passing(Point.MANIFEST_SAVED)
            case CheckGate():
                check_not_asked(job.project, pipeline, changes=_made(manifest).changes)
                forced = _gate(job, _made(manifest))
                passing(Point.GATE_PASSED)
            case Sow():
                job.progress("make the states of the stream;", chunk)
                manifest = _sown(job, _made(manifest), _made(staged))
                passing(Point.SEED_SOWN)
            case Swap():
                return _swap(job, chunk, _made(manifest), _made(staged), forced)
            case _:
                assert_never(step)
    raise AssertionError  # every plan ends in a swap


def _stage_aside(job: Job, chunk: Chunk, staged: swap.Staged) -> Aside | None:
    return stage_aside(
        job.spark,
        job.pipeline,
        staged.pin,
        chunk.intervals,
        staged.watched,
        staged.table,
        staged.aside,
        job.folder,
        chunk.number,
    )


def _swap(job: Job, chunk: Chunk, manifest: Manifest, staged: swap.Staged, forced: str | None) -> ChunkDone:
    if job.stage_only:
        return ChunkDone(chunk.number, "staged", manifest)
    job.progress("swap", chunk)
    erased = taken_out(job.project, job.pipeline, manifest)
    published = swap.swap_chunk(
        job.pipeline,
        staged.table,
        manifest,
        job.guard,
        forced,
        lambda: settle(lambda: job.spark, job.pipeline, job.folder, manifest),
        erased,
    )
    if published.already:
        return ChunkDone(chunk.number, "already", manifest, published.retries)
    # What is equal is not in the manifest: no commit will ever name those files.
    kept = {file.path for file in manifest.staged}
    staged.table.discard(file for file in staged.files if file.path not in kept)
    passing(Point.CHUNK_SWAPPED)
    outcome = "swapped" if manifest.staged or manifest.replaced else "equal"
    return ChunkDone(chunk.number, outcome, manifest, published.retries, forced, erased)


def _sown(job: Job, manifest: Manifest, staged: swap.Staged) -> Manifest:
    pipeline = job.pipeline
    coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
    seed = seeds.sow(pipeline, staged, coverage)
    carries = staged.snapshots is not None
    manifest = replace(manifest, seed=seeds.with_chain(pipeline, seed, coverage) if carries else seed)
    job.folder.save(manifest)
    return manifest


def _made(value: _T | None) -> _T:
    if value is None:
        raise AssertionError  # the steps of a plan come in this order
    return value


def _gate(job: Job, manifest: Manifest) -> str | None:
    try:
        return let_pass(job.pipeline, manifest, job.forced)
    except QualityError as error:
        job.folder.save(replace(manifest, refused=error.message))
        raise


def _replan(job: Job, chunk: Chunk) -> tuple[Pin, Chunk] | None:
    """The chunk against the table as it is now, without what has become clean; None when nothing is left."""
    view = look(job.project, job.plan.pipeline)
    clean = {each.interval for each in view.judged if each.state is State.CLEAN}
    # An interval that was clean when it was planned was asked for by name: it is done again.
    wanted = tuple(
        i
        for i in chunk.intervals
        if i not in clean
        or job.plan.asked is not None
        or job.plan.why.get(i.label, "").startswith(State.CLEAN.value)
    )
    if not wanted:
        return None
    pin = replace(pin_now(job.project, view.pipeline, view.coverage), reached=job.plan.pin.reached)
    steps = tuple(Stage(wanted) if isinstance(step, Stage) else step for step in chunk.steps)
    return pin, Chunk(chunk.number, steps, wanted)
