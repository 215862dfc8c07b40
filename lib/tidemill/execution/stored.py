"""What a pipeline's stream has stored for its fold, and whether today's code goes on from it.

Where it does not, a restart may: the stream then begins with states that today's code has made, and drops what was there.
"""

from __future__ import annotations

from dataclasses import replace

from tidemill.errors import StateError
from tidemill.execution.folds import Folded, carries
from tidemill.folds.cells import ANEW
from tidemill.folds.evolve import check_fields
from tidemill.intervals import Grain
from tidemill.ledger import folds, inputs
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.folds import Stored
from tidemill.model import Pipeline
from tidemill.storage import on_a_store


def stored_of(fold: Folded) -> Stored:
    """What a stream stores that begins with a fold."""
    return Stored(fold.key, fold.buckets, (fold.state,), (fold.rows,), fold.zero)


def check_stored(
    pipeline: Pipeline, fold: Folded | None, checkpoint: str, coverage: Coverage, sown: Stored | None = None
) -> None:
    """Note what the stream stores from now on; raise :class:`StateError`, naming what changed, if it cannot go on.

    ``sown``: what its next batch begins anew with; whatever was stored before goes in that batch.
    """
    if fold is None:
        return
    state = pipeline.table.state_path
    known = folds.read(state) if _has_begun(pipeline, checkpoint, coverage) else None
    stepped = bool(coverage.watermark) or fold.emit != "ordered" or pipeline.recorded
    if known is not None and not stepped:
        # Before the first watermark rows wait, and nothing else is there.
        known = replace(known, states=(), zero={})
    if sown is not None:
        # Buckets of before that are no more have to be emptied, in whichever attempt of that batch.
        before = replace(sown, most=max(sown.ever, known.ever if known is not None else 0))
    elif known is not None:
        before = known
    else:
        folds.write(state, stored_of(fold))
        return
    _check(pipeline, fold, before, stepped=stepped)
    after = replace(
        before,
        states=(*(each for each in before.states if each != fold.state), fold.state),
        rows=(*(each for each in before.rows if each != fold.rows), fold.rows),
        zero=fold.zero,
    )
    if after != known:
        folds.write(state, after)


def _has_begun(pipeline: Pipeline, checkpoint: str, coverage: Coverage) -> bool:
    """Whether a batch of the stream has been published: what others have stored Spark does not go on from."""
    query = inputs.query_id(checkpoint)
    return query is not None and (pipeline.recorded or coverage.query == query)


def _check(pipeline: Pipeline, fold: Folded, before: Stored, *, stepped: bool) -> None:
    what, otherwise = f"{pipeline.name}: fold {fold.name}", _otherwise(pipeline, fold, stepped=stepped)
    if before.key != fold.key or before.buckets != fold.buckets:
        raise StateError(
            f"{what}: the stream began with key {', '.join(before.key)} in {before.buckets} buckets, and now it is "
            f"{', '.join(fold.key)} in {fold.buckets}",
            next_step=f"put it back; {otherwise}",
        )
    if carries(pipeline, fold):
        _check_zero(what, before, fold, otherwise)
    for each in before.states:
        check_fields(f"{what}: state", each, fold.state, fold.renamed, may_go=False, otherwise=otherwise)
    for each in before.rows:
        check_fields(f"{what}: a row", each, fold.rows, {}, may_go=True, otherwise=otherwise)


def _check_zero(what: str, before: Stored, fold: Folded, otherwise: str) -> None:
    """A digest leaves out what is as in zero: under another zero, states that differ would have one digest."""
    for name, value in fold.zero.items():
        known = before.zero.get(fold.renamed.get(name, name), before.zero.get(name))
        if known is not None and known != value:
            raise StateError(
                f"{what}: zero() gives {value} for {name}, and the stream's states begin with {known}",
                next_step=f"put it back, and begin otherwise in step(); {otherwise}",
                field=name,
            )


def _otherwise(pipeline: Pipeline, fold: Folded, *, stepped: bool) -> str:
    """What leads on where the stream cannot go on from what it has stored."""
    if not stepped or fold.emit != "ordered" or pipeline.recorded or never_anew(pipeline) is not None:
        return f"or begin anew: {ANEW}"
    name = pipeline.name
    first = f"tidemill backfill {name} --dirty --stale --missing, then " if carries(pipeline, fold) else ""
    return (
        f"or have the stream begin anew, with states that today's code makes: {first}tidemill restart {name}"
    )


def never_anew(pipeline: Pipeline) -> tuple[str, str] | None:
    """Why no stream of a pipeline can begin anew, and what to do instead; None where one can, if it has an ordered fold."""
    name = pipeline.name
    if pipeline.grain is Grain.ALL:
        return "its one interval is never complete", f"tidemill backfill {name} --open"
    if pipeline.table.mode != "append":
        return "its table is of another mode than append", f"tidemill backfill {name} --dirty"
    if on_a_store(pipeline.table.state_path):
        why = "its state is on a store, and tasks read what a stream begins with from a file system so far"
        return why, f"tidemill backfill {name} --dirty, each time"
    return None
