"""Whether a live run may go on where the table, the checkpoint and the sources stand."""

from __future__ import annotations

from tidemill.errors import PlanError, StateError
from tidemill.execution.resume import is_anew
from tidemill.ledger import inputs
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import Offsets
from tidemill.model import Pipeline
from tidemill.planning.timed import check_timed


def check_checkpoint(pipeline: Pipeline, coverage: Coverage, checkpoint: str) -> None:
    """Raise :class:`StateError` when the table was fed from another checkpoint, or by backfills alone; :class:`PlanError` when it was
    by another event time.
    """
    check_timed(pipeline, coverage)
    covered, mine = coverage.query, inputs.query_id(checkpoint)
    if is_anew(pipeline, coverage):
        return  # nothing is decided twice: see execution.resume
    if covered is not None and covered != mine:
        has = "is gone" if mine is None else "belongs to another table"
        raise StateError(
            f"{pipeline.name}: the table was fed from a checkpoint that {has}; going on would "
            "read everything again and double its rows",
            next_step=f"restore {checkpoint}, or move the table away and start anew",
            checkpoint=checkpoint,
        )
    if covered is None and any(each.checked is not None for each in coverage.intervals.values()):
        raise StateError(
            f"{pipeline.name}: the table was filled by backfills alone; a live stream would read "
            "everything again and double its rows",
            next_step="keep backfilling it, or start the live stream on a new table first",
        )


def check_follows(pipeline: Pipeline, done: int | None, batch: int) -> None:
    """Raise :class:`StateError` where the checkpoint stands at another batch than the table, whose last is ``done``.

    Spark runs the batch after it, or that one again. Any other is of a checkpoint, or of a table, that was put back from an
    earlier time: what it reads was published already, or what it has read is published nowhere.
    """
    if batch not in (done, (-1 if done is None else done) + 1):
        holds = "nothing yet" if done is None else f"batch {done}"
        raise _of_two_times(pipeline, holds, f"batch {batch}", batch)


def check_same(pipeline: Pipeline, known: Coverage, batch: int, now: Offsets) -> None:
    """Raise :class:`StateError` where the table's last batch comes again and reads up to elsewhere, to ``now``."""
    if known.batch == batch and known.source_end not in (None, now):
        raise _of_two_times(pipeline, f"batch {batch}", "that batch with other records", batch)


def _of_two_times(pipeline: Pipeline, holds: str, runs: str, batch: int) -> StateError:
    anew = f"put back the table and the checkpoint of one time; or move both away and begin anew: tidemill bootstrap {pipeline.name}"
    recorded = "move the checkpoint away: an event store reads on from where its ledger stands"
    return StateError(
        f"{pipeline.name}: the table holds {holds}, and its checkpoint is about to run {runs}: one of them is of an "
        "earlier time; going on would lose rows",
        next_step=recorded if pipeline.recorded else anew,
        batch=batch,
    )


def check_moved(pipeline: Pipeline, coverage: Coverage, checkpoint: str) -> None:
    """Raise :class:`StateError` when the stream has read the files of another folder than the pipeline names."""
    if is_anew(pipeline, coverage):
        return
    for name, end in (coverage.source_end or {}).items():
        each = pipeline.inputs.get(name)
        if each is None or each.files is None or not end.get("offset"):
            continue
        until = int(end["offset"]["logOffset"])
        moved = inputs.moved_from(checkpoint, end["place"], until, each.files.path)
        if moved is not None:
            raise StateError(
                f"{pipeline.name}: the stream has read files of {moved}, and {name} is now "
                f"{each.files.path}; going on would read every file again and double its rows",
                next_step="put the project and its files back where they were, or start on a new table",
                input=name,
            )


def check_watermarks(pipeline: Pipeline) -> None:
    """Raise :class:`PlanError` where the state of a pipeline that waits for watermarks has none to wait for."""
    for name, each in pipeline.inputs.items():
        if not each.static and not pipeline.recorded and pipeline.event_time_of(name).watermark is None:
            raise PlanError(
                f"{pipeline.name} keeps state, and its input {name!r} has no watermark",
                next_step="add event_time.watermark: how long stragglers are waited for",
                input=name,
            )
