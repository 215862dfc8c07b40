"""Which ordered fold a frame's plan has, and whether a pipeline may run it where its stream stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pyspark.sql import DataFrame

from tidemill.errors import PlanError, StateError
from tidemill.folds.evolve import check_fields
from tidemill.folds.frame import MARK
from tidemill.folds.live import BUCKET, ROWS
from tidemill.folds.shape import HASH
from tidemill.intervals import Grain, format_duration
from tidemill.ledger import folds, inputs
from tidemill.ledger.folds import Stored
from tidemill.model import Pipeline

OPERATOR = "TransformWithStateInPySpark"


@dataclass(frozen=True, slots=True)
class Folded:
    """A fold, as its mark in the plan describes it. ``horizon`` in microseconds."""

    name: str
    horizon: int | None
    buckets: int
    emit: str
    key: tuple[str, ...]
    state: dict[str, str]
    renamed: dict[str, str]
    rows: dict[str, str]


def fold_of(frame: DataFrame) -> Folded | None:
    """The fold that made a frame's rows, if one did. Raises :class:`PlanError` when several did."""
    plan = frame._jdf.queryExecution().analyzed()  # noqa: SLF001
    found = {mark for node in _walk(plan) for mark in _marks(node)}
    if len(found) > 1:
        raise PlanError(
            "the transform has several folds", next_step="make a pipeline of each, or one fold of them"
        )
    if not found:
        return None
    values = json.loads(found.pop()[1])
    return Folded(**values | {"key": tuple(values["key"])})


def is_fold(node: Any) -> bool:
    """Whether a plan's custom state is a fold's: what it is grouped by bears the mark, and it gives a fold's blobs."""
    if str(node.nodeName()) != OPERATOR:
        return False
    output = [str(name) for name in _names(node.output())]
    return output == [ROWS] and any(True for child in _children(node) for _ in _first_mark(child))


def check_reach(pipeline: Pipeline, fold: Folded | None) -> None:
    """Raise :class:`PlanError` unless the pipeline's lookback warms the fold's state; all of time has nothing before it."""
    if fold is None or pipeline.grain is Grain.ALL:
        return
    if fold.horizon is None:
        raise PlanError(
            f"{pipeline.name}: fold {fold.name} is unbounded, and no lookback warms its state: a backfill of an interval "
            "would have to read all there was before",
            next_step="say horizon, how far back what comes out at a moment depends on rows",
            fold=fold.name,
        )
    horizon = timedelta(microseconds=fold.horizon)
    if pipeline.lookback < horizon:
        raise PlanError(
            f"{pipeline.name}: lookback is {format_duration(pipeline.lookback) or '0s'}, and the horizon of fold {fold.name} is "
            f"{format_duration(horizon)}",
            next_step=f"say lookback: {format_duration(horizon)}",
            fold=fold.name,
        )


def check_stored(pipeline: Pipeline, fold: Folded | None, checkpoint: str) -> None:
    """Note what the stream stores from now on; raise :class:`StateError`, naming what changed, if it cannot go on."""
    if fold is None:
        return
    state = pipeline.table.state_path
    before = folds.read(state) if inputs.query_id(checkpoint) is not None else None
    now = Stored(fold.key, fold.buckets, (fold.state,), (fold.rows,))
    if before is None:
        folds.write(state, now)
        return
    what = f"{pipeline.name}: fold {fold.name}"
    if before.key != now.key or before.buckets != now.buckets:
        raise StateError(
            f"{what}: the stream began with key {', '.join(before.key)} in {before.buckets} buckets, and now it is "
            f"{', '.join(now.key)} in {now.buckets}",
            next_step="put it back; another needs a new table and checkpoint",
        )
    for each in before.states:
        check_fields(f"{what}: state", each, fold.state, fold.renamed, may_go=False)
    for each in before.rows:
        check_fields(f"{what}: a row", each, fold.rows, {}, may_go=True)
    after = replace(
        before,
        states=(*(each for each in before.states if each != fold.state), fold.state),
        rows=(*(each for each in before.rows if each != fold.rows), fold.rows),
    )
    if after != before:
        folds.write(state, after)


def _first_mark(node: Any) -> Iterator[tuple[int, str]]:
    """The marks of the nearest node that has any, with no other custom state before it."""
    marks = list(_marks(node))
    if marks:
        yield from marks
    elif str(node.nodeName()) != OPERATOR:
        for child in _children(node):
            yield from _first_mark(child)


def _marks(node: Any) -> Iterator[tuple[int, str]]:
    if str(node.nodeName()) != "Project":
        return
    output = node.output()
    for i in range(output.size()):
        each = output.apply(i)
        if str(each.name()) in {BUCKET, HASH} and each.metadata().contains(MARK):
            yield int(each.exprId().id()), str(each.metadata().getString(MARK))


def _names(output: Any) -> Iterator[str]:
    for i in range(output.size()):
        yield str(output.apply(i).name())


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in _children(node):
        yield from _walk(child)


def _children(node: Any) -> list[Any]:
    children = node.children()
    return [children.apply(i) for i in range(children.size())]
