"""Whether what is observed of a frame's rows is observed once.

To sort all rows, or to part them by ranges, Spark runs what is below twice: the first time to see where to part it. What an
input's suite counts there, and what the engine itself does, is then counted twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pyspark.sql import DataFrame

from tidemill.errors import PlanError

_NEXT = (
    "leave it out: a table's rows have no order. Rows come together with repartition(), and in an order within their files "
    "with sortWithinPartitions()"
)


def check_once(frame: DataFrame, names: Collection[str] | None = None) -> None:
    """Raise :class:`PlanError` where a transform's ``frame`` would run what is observed under these names twice.

    ``names``: of observations; any, when None.
    """
    for node in _above(frame._jdf.queryExecution().analyzed()):  # noqa: SLF001  pyspark does not show its plans
        if _by_ranges(node) and any(names is None or str(each) in names for each in _observed(node)):
            raise PlanError(
                f"the transform sorts all rows, or parts them by ranges ({node.nodeName()}); Spark runs what is below "
                "twice for that, and rows would be counted twice",
                next_step=_NEXT,
                operator=str(node.nodeName()),
            )


def _by_ranges(node: Any) -> bool:
    match str(node.nodeName()):
        case "Sort":
            return bool(getattr(node, "global")())  # no name of Python's
        case "RepartitionByExpression":
            return str(node.partitioning().getClass().getSimpleName()) == "RangePartitioning"
    return False


def _above(node: Any) -> Iterator[Any]:
    """The nodes of a plan above what is observed."""
    if str(node.nodeName()) != "CollectMetrics":
        yield node
        for child in _children(node):
            yield from _above(child)


def _observed(node: Any) -> Iterator[str]:
    if str(node.nodeName()) == "CollectMetrics":
        yield str(node.name())
    for child in _children(node):
        yield from _observed(child)


def _children(node: Any) -> Iterator[Any]:
    children = node.children()
    for i in range(children.size()):
        yield children.apply(i)
