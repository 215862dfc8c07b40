"""What a stream begins anew with: sown by a restart, planted by the stream's next batch.

It lies in a folder beside the checkpoint, and counts from the commit of the table that names it. From then on the stream's next
batch is run with it, however often it is tried: the batch's number tells, and Spark's own log of what is done.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from itertools import islice

from tidemill.errors import StateError
from tidemill.execution.folds import described
from tidemill.execution.schemas import StartAgain
from tidemill.execution.stored import stored_of
from tidemill.execution.swap import Staged
from tidemill.folds.frame import sown
from tidemill.folds.planting import Planting
from tidemill.folds.seeds import STATES, close, missing, unfit
from tidemill.folds.shape import BUCKET
from tidemill.intervals import interval_at
from tidemill.ledger import chain, folds, inputs, log
from tidemill.ledger.carried import NOTHING, Seed
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import Swap
from tidemill.ledger.folds import Stored
from tidemill.model import Pipeline
from tidemill.sinks.tables import Table
from tidemill.storage import place, remove_tree


def sow(pipeline: Pipeline, staged: Staged, coverage: Coverage) -> Seed:
    """Write what the stream begins anew with, where a restart has staged its rows; nothing names it yet. One Spark job."""
    assert staged.sowing is not None  # noqa: S101  a restart's
    shape, keyed, fold = staged.sowing.found[-1]
    reached = staged.sowing.reached
    seed = Seed(f"begin-{uuid.uuid4().hex[:12]}", str(coverage.query), coverage.batch, reached // 1000)
    folder = _folder(pipeline, seed)
    sown(shape, keyed, reached).write.partitionBy(STATES, BUCKET).parquet(folder)
    # From its commit on this is what is stored, whichever code the stream then meets.
    folds.write_seed(folder, stored_of(described(fold)))
    close(folder)
    return seed


def with_chain(pipeline: Pipeline, seed: Seed, coverage: Coverage) -> Seed:
    """The seed of a fold without a horizon: with the end from which its states come, and their digest there."""
    here = interval_at(pipeline.grain, datetime.fromtimestamp(seed.reached / 1000, UTC))
    last = interval_at(pipeline.grain, here.start - timedelta(microseconds=1))
    digest = chain.standing(coverage, pipeline.grain, here).digest
    return Seed(seed.name, seed.query, seed.batch, seed.reached, last.label, digest or NOTHING)


def pending(coverage: Coverage, checkpoint: str) -> Seed | None:
    """What the stream's next batch is to begin anew with; None where it has, or there is nothing."""
    seed = coverage.seed
    if seed is None or seed.query != inputs.query_id(checkpoint) or inputs.committed(checkpoint) > seed.batch:
        return None
    return seed


class Unheard:
    """Whether a restart has been published that a run has not heard of: by one that was paused past its lease.

    The batch that the run is in began with the states of before; published, it would be taken for the one that began anew. It is
    not yet noted as done, so the next start runs it again, with the seed.
    """

    def __init__(self, pipeline: Pipeline, coverage: Coverage) -> None:
        self._pipeline, self._seen, self._known = pipeline, coverage.version, coverage.seed

    def check(self, table: Table) -> None:
        """Raise :class:`StartAgain` where one has; before a commit on the version that was looked at.

        The log is read where others have committed since, and nowhere else.
        """
        path, grain = self._pipeline.table.path, self._pipeline.grain
        behind = table.version - self._seen
        try:
            others = list(islice(log.commits_after(path, self._seen, grain), behind)) if behind > 0 else []
        except StateError:
            raise StartAgain("since upkeep has cleaned what others committed meanwhile") from None
        for commit in others:
            seed = commit.fact.seed if isinstance(commit.fact, Swap) else None
            if seed is not None and seed != self._known:
                raise StartAgain("with the states that a restart has made")
        self._seen = table.version

    def published(self) -> None:
        """The commit that was looked at for is there: it is the run's own."""
        self._seen += 1


def gone(pipeline: Pipeline, seed: Seed | None) -> str | None:
    """Why a stream has to begin anew once more that was to begin with this seed; None where it can."""
    why = None if seed is None else missing(_folder(pipeline, seed))
    return None if why is None else f"the states that its stream was to begin anew with {why}"


def told(seed: Seed | None) -> str:
    """What a batch says of what its states began anew with."""
    return "" if seed is None else seed.name


def planting(pipeline: Pipeline, seed: Seed | None) -> Planting | None:
    """The seed, as a fold is told of it."""
    if seed is None:
        return None
    before = folds.read(pipeline.table.state_path)
    buckets = 0 if before is None else before.ever
    return Planting(_folder(pipeline, seed), seed.reached * 1000, buckets)


def stored(pipeline: Pipeline, seed: Seed | None) -> Stored | None:
    """What the seed's states and rows are of; None where there is no seed, or it is of before that was kept.

    Raises :class:`StateError` where the seed is not there, or not whole.
    """
    if seed is None:
        return None
    folder = _folder(pipeline, seed)
    why = missing(folder)
    if why is not None:
        raise unfit(folder, why)
    return folds.read_seed(folder)


def tidy(pipeline: Pipeline, kept: Seed | None) -> None:
    """Remove what no stream will begin with: what has been planted, and what crashed restarts left. By who holds its lease."""
    if pipeline.recorded:
        return  # these have seeds of another kind
    for old in place(f"{pipeline.table.state_path}/seeds").glob("begin-*"):
        if kept is None or old.name != kept.name:
            remove_tree(old)


def _folder(pipeline: Pipeline, seed: Seed) -> str:
    return f"{pipeline.table.state_path}/seeds/{seed.name}"
