"""What Spark knows about a running batch and does not say in Python: read from its plan, inside the batch.

``foreachBatch`` runs while the batch's ``IncrementalExecution`` is current, so observed metrics and the
operators' counts of dropped rows are there before the batch is published, and go into the same commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from tidemill.errors import PlanError
from tidemill.execution.folds import Folded, fold_of, is_fold

_DROPPED = "numRowsDroppedByWatermark"
_SESSIONS = "SessionWindowStateStoreSave"
_STATEFUL = {"Aggregate", "Deduplicate", "DeduplicateWithinWatermark", "Distinct", "SessionWindow"}
_FIRST_TO_COME = {"Deduplicate", "DeduplicateWithinWatermark"}
_V2_SOURCE = "StreamingDataSourceV2ScanRelation"
_IN_PYTHON, _TOPICS = "PythonMicroBatchStream", "KafkaV2["
_QUEUE, _SERVERS = ("host", "port", "vhost", "queue"), ("kafka.bootstrap.servers",)
_CUSTOM = ("FlatMapGroups", "TransformWithState", "MapGroupsWithState")


@dataclass(frozen=True, slots=True)
class Nature:
    """``stateful``: the transform keeps state; ``fold``: in an ordered fold."""

    stateful: bool
    fold: Folded | None = None


def nature(frame: DataFrame) -> Nature:
    """What kind of transform made a streaming frame.

    Raises :class:`PlanError` for custom state that is no fold, limits and deduplication by some of the columns: their
    rows would depend on the order of arrival. And for a fold that is not the only step with state.
    """
    stateful, fold = False, fold_of(frame)
    for node in _walk(frame._jdf.queryExecution().analyzed()):  # noqa: SLF001
        name = str(node.nodeName())
        if is_fold(node):
            continue
        if name.startswith(_CUSTOM):
            raise PlanError(
                f"the transform uses custom state ({name}), whose rows depend on the order of arrival",
                next_step="use windows, joins or deduplication, or tidemill.folds, which steps rows by event time",
                operator=name,
            )
        if not node.isStreaming():
            continue
        if name == "GlobalLimit":
            raise PlanError(
                "the transform limits a stream, and which rows come first depends on the order of arrival",
                next_step="filter by a column, or keep the greatest rows with mode: upsert",
                operator=name,
            )
        if name in _FIRST_TO_COME and _on_some_columns(node):
            raise PlanError(
                "dropDuplicates on some of the columns keeps the row that arrives first, which depends on the "
                "order of arrival",
                next_step="use tidemill.transforms.dedup, which keeps the first by event time, or name every column",
                operator=name,
            )
        if name in _STATEFUL or (name == "Join" and _both_stream(node)):
            stateful = True
    if stateful and fold is not None:
        raise PlanError(
            f"the transform has fold {fold.name} and another step that keeps state",
            next_step="make a pipeline of each, the second over the first's table",
        )
    return Nature(stateful or fold is not None, fold)


def _on_some_columns(node: Any) -> bool:
    # Equal in all columns, it does not matter which row stays; within a watermark, it does when.
    return bool(node.nodeName() != "Deduplicate" or node.keys().size() < node.child().output().size())


def _both_stream(node: Any) -> bool:
    children = node.children()
    return all(children.apply(i).isStreaming() for i in range(children.size()))


def _walk(node: Any) -> Iterator[Any]:
    yield node
    children = node.children()
    for i in range(children.size()):
        yield from _walk(children.apply(i))


class Inspector:
    """Looks into the current batch of one query. Cheap: it remembers where in the plan to look."""

    def __init__(self, query: StreamingQuery) -> None:
        self._stream = query._jsq.streamingQuery()  # noqa: SLF001
        self._paths: list[tuple[int, ...]] | None = None

    def observed(self) -> dict[str, dict[str, Any]]:
        """What each observation of the batch saw, by its name."""
        metrics = self._stream.lastExecution().observedMetrics()
        names = metrics.keys().iterator()
        found = {}
        while names.hasNext():
            name = names.next()
            found[str(name)] = json.loads(metrics.apply(name).json())
        return found

    def dropped(self) -> int:
        """How many rows the batch's stateful operators dropped as late (partial aggregates count as one)."""
        return sum(int(node.metrics().apply(_DROPPED).value()) for node in self._operators())

    def sessions(self) -> bool:
        """Whether the batch merges sessions."""
        return any(str(node.nodeName()) == _SESSIONS for node in self._operators())

    def finished(self) -> int:
        """Up to when (epoch milliseconds) every stateful operator of the batch has given all its rows.

        The query's watermark is not that where operators follow each other: a join holds back the watermark of
        the aggregation after it by as much as its bounds reach.
        """
        return max(0, min((_eviction(node) for node in self._operators()), default=0))

    def _operators(self) -> list[Any]:
        root = self._stream.lastExecution().executedPlan()
        if self._paths is None:
            self._paths = list(_places(root, ()))
        found = []
        for path in self._paths:
            node = root
            for index in path:
                node = node.children().apply(index)
            found.append(node)
        return found

    def sources(self) -> list[str]:
        """The query's sources, in the order of its offsets, as Spark describes them; with the broker of those that have one."""
        sources = self._stream.sources()
        found = [sources.apply(i) for i in range(sources.size())]
        return [self._described(each) for each in found]

    def _described(self, source: Any) -> str:
        text = str(source.toString())
        # A source in Python by its class alone, topics without their broker: the options are in the plan.
        if _IN_PYTHON in text:
            return f"rabbitmq_stream({' '.join(self._options(source, _QUEUE))})"
        if text.startswith(_TOPICS):
            return f"{text} at {' '.join(self._options(source, _SERVERS))}"
        return text

    def _options(self, source: Any, names: Sequence[str]) -> list[str]:
        for node in _walk(self._stream.logicalPlan()):
            if str(node.nodeName()) == _V2_SOURCE and node.stream().equals(source):
                options = node.relation().options()
                return [str(options.get(name)) for name in names]
        return []


def _places(node: Any, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if node.metrics().contains(_DROPPED):
        yield path
    children = node.children()
    for i in range(children.size()):
        yield from _places(children.apply(i), (*path, i))


def _eviction(node: Any) -> int:
    watermark = node.eventTimeWatermarkForEviction()
    return int(watermark.get()) if watermark.isDefined() else 0
