"""Which ordered fold a frame's plan has, and whether a pipeline may run it where its stream stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pyspark.sql import DataFrame

from tidemill.errors import PlanError
from tidemill.folds.carry import STATE, Carrying, carrying
from tidemill.folds.frame import MARK
from tidemill.folds.shape import BUCKET, HASH, ROWS
from tidemill.intervals import Grain, format_duration
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
    zero: dict[str, str]


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
    return described(json.loads(found.pop()[1]))


def described(values: Mapping[str, Any]) -> Folded:
    """A fold from its description."""
    return Folded(**{**values, "key": tuple(values["key"])})


def is_fold(node: Any) -> bool:
    """Whether a plan's custom state is a fold's: what it is grouped by bears the mark, and it gives a fold's blobs."""
    if str(node.nodeName()) != OPERATOR:
        return False
    output = [str(name) for name in _names(node.output())]
    return output == [ROWS] and any(True for child in _children(node) for _ in _first_mark(child))


def check_reach(pipeline: Pipeline, fold: Folded | None) -> None:
    """Raise :class:`PlanError` unless the pipeline's lookback warms the fold's state, the fold carries it, nothing is ever
    computed again, or all of time is: that has nothing before it.
    """
    if fold is None or fold.horizon is None or pipeline.recorded or pipeline.grain is Grain.ALL:
        return
    horizon = timedelta(microseconds=fold.horizon)
    if pipeline.lookback < horizon:
        raise PlanError(
            f"{pipeline.name}: lookback is {format_duration(pipeline.lookback) or '0s'}, and the horizon of fold {fold.name} is "
            f"{format_duration(horizon)}",
            next_step=f"say lookback: {format_duration(horizon)}",
            fold=fold.name,
        )


def carries(pipeline: Pipeline, fold: Folded | None) -> bool:
    """Whether states go from interval to interval without bound; where there is one interval, there is nowhere to go."""
    if fold is None or pipeline.recorded or pipeline.grain is Grain.ALL:
        return False
    return fold.horizon is None


def carrying_in(pipeline: Pipeline, how: Carrying) -> AbstractContextManager[None]:
    """What a pipeline's transform is called in, so that a fold without a horizon gives its states beside its rows."""
    if pipeline.recorded or pipeline.grain is Grain.ALL:
        return nullcontext()
    return carrying(how)


def check_carried(pipeline: Pipeline, fold: Folded, frame: DataFrame) -> None:
    """Raise :class:`PlanError` where a fold without a horizon could not give its states at interval ends beside its rows."""
    for wrong, why, next_step in (
        (fold.emit != "ordered", "is immediate, so that its states depend on arrival", "say emit = 'ordered', or a horizon"),
        (bool(pipeline.lookback or pipeline.lookahead), "gives rows of the interval that it steps", "take lookback and lookahead away"),
        (pipeline.table.mode != "append", "needs a table of mode append", "say mode: append, or a horizon"),
        (
            STATE not in frame.columns or not _ends_in_fold(frame._jdf.queryExecution().analyzed()),  # noqa: SLF001
            "is not the last step: its states travel beside its rows",
            "after it only add columns (withColumn); put other steps before it, into step(), or into a pipeline below",
        ),
    ):  # fmt: skip
        if wrong:
            raise PlanError(
                f"{pipeline.name}: fold {fold.name} has no horizon, and {why}",
                next_step=next_step,
                fold=fold.name,
            )


def check_streamed(pipeline: Pipeline, fold: Folded | None, frame: DataFrame, *, bootstrapped: bool) -> None:
    """Raise :class:`PlanError` unless a stream's fold can be held to what backfills give."""
    check_reach(pipeline, fold)
    if fold is None or not carries(pipeline, fold):
        return
    check_carried(pipeline, fold, frame)
    if bootstrapped:
        raise PlanError(
            f"{pipeline.name}: fold {fold.name} has no horizon, and its stream's states come from all there ever was",
            next_step=f"let the stream read history itself: tidemill run {pipeline.name}",
            fold=fold.name,
        )


def check_sown(pipeline: Pipeline, fold: Folded | None) -> None:
    """Raise :class:`PlanError` where what a stream holds is not a fold's, or would depend on arrival again."""
    if fold is not None and fold.emit == "ordered":
        return
    why = (
        "it has no fold, and what other steps hold cannot be made for its stream"
        if fold is None
        else f"fold {fold.name} is immediate: its states depend on arrival, and would again"
    )
    raise PlanError(
        f"{pipeline.name} cannot begin anew: {why}",
        next_step=f"let it run on; what is dirty then: tidemill backfill {pipeline.name} --dirty",
    )


def _ends_in_fold(plan: Any) -> bool:
    node = plan
    while str(node.nodeName()) in {"Project", "SubqueryAlias"}:
        node = _children(node)[0]
    return str(node.nodeName()) == "MapInArrow" and STATE in set(_names(node.output()))


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
