"""A dry replay: what would today's code have decided of the commands that an event store has decided. Writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.deciding.again import Change, again
from tidemill.errors import PlanError
from tidemill.execution.failures import explained
from tidemill.execution.pins import pin_now
from tidemill.execution.refusals import check_rejections
from tidemill.execution.session import session_of
from tidemill.ledger import log
from tidemill.model import Pipeline
from tidemill.planning.plan import Pin
from tidemill.quality.watch import Watched
from tidemill.sources.history import history_frames
from tidemill.transforms.apply import load_domain, only, transform

if TYPE_CHECKING:
    from tidemill.engine import Engine

_EVER = ((datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 1, tzinfo=UTC)),)


@dataclass(frozen=True, slots=True)
class Difference:
    """A command of which today's code makes something else: events (``type``, ``data``), or a refusal (``refused``, the
    kind, and ``reason``), ``then`` and ``now``.
    """

    aggregate: str
    subject: str
    command: str
    change: str
    then: tuple[dict[str, Any], ...]
    now: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Redecided:
    """What a dry replay found. ``changes``: commands by :class:`~tidemill.deciding.again.Change`; ``gone``: commands that were
    decided and are no longer in the input; ``differences``: the first of those whose outcome is another, in the order in
    which they were decided.
    """

    pipeline: str
    changes: Mapping[str, int]
    gone: int
    differences: tuple[Difference, ...]

    @property
    def commands(self) -> int:
        """How many commands were decided again."""
        return sum(self.changes.values())

    @property
    def holds(self) -> bool:
        """Whether today's code gives the very events that were given."""
        return not set(self.changes) - {Change.SAME.value, Change.OTHER_REASON.value}

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        named = [{name: getattr(each, name) for name in Difference.__slots__} for each in self.differences]
        return {
            "pipeline": self.pipeline,
            "commands": self.commands,
            "changes": dict(self.changes),
            "gone": self.gone,
            "holds": self.holds,
            "differences": named,
        }


def redecide(engine: Engine, name: str, *, most: int) -> Redecided:
    """See :meth:`tidemill.Engine.redecide`."""
    pipeline = engine.project.pipeline(name)
    # Before the pin: of every batch that the rejections of this version are of, the pin has the events. What a stream has yet to
    # bring there has no outcome yet, and changes no aggregate.
    refused = log.last_version(pipeline.rejections_path)
    view = engine.view(name)
    if pipeline.decides is None:
        raise PlanError(f"{name} is no event store", next_step=f"tidemill verify {name} compares its rows")
    check_rejections(pipeline)
    if not view.coverage.live or refused is None:
        raise PlanError(f"{name} has decided nothing yet", next_step=f"tidemill run {name}")
    pin = pin_now(engine.project, pipeline, view.coverage)
    try:
        return _redecided(engine, pipeline, pin, refused, most)
    except Exception as error:
        raise explained(error, pipeline) from error


def _redecided(engine: Engine, pipeline: Pipeline, pin: Pin, refused_version: int, most: int) -> Redecided:
    spark, root = session_of(engine.spark, pipeline), engine.project.root
    read = {name: each.read for name, each in pin.inputs.items()}
    frames = history_frames(spark, pipeline, read, _EVER, Watched.of(pipeline))
    before = pipeline.model_copy(update={"transform": pipeline.transform[:-1]})
    commands = transform(spark, before, frames, root) if before.transform else only(frames)
    events, refused = (
        spark.read.format("delta").option("versionAsOf", version).load(path)
        for path, version in (
            (pipeline.table.path, pin.version),
            (pipeline.rejections_path, refused_version),
        )
    )
    domain = load_domain(str(pipeline.decides), root)
    rows = again(commands, events, refused, domain).persist()
    try:
        counts = {row["change"]: row["count"] for row in rows.groupBy("change").count().collect()}
        other = rows.where(F.col("change") != Change.SAME.value).orderBy("position").limit(most).collect()
    finally:
        rows.unpersist()
    changes = {each.value: counts[each.value] for each in Change if each.value in counts}
    gone = _decided(events, refused) - sum(changes.values())
    return Redecided(pipeline.name, changes, gone, tuple(_difference(row) for row in other))


def _decided(events: DataFrame, refused: DataFrame) -> int:
    ids = events.select("aggregate", "subject", F.col("causationid").alias("id"))
    return (
        ids.unionByName(refused.where("id IS NOT NULL").select("aggregate", "subject", "id"))
        .distinct()
        .count()
    )


def _difference(row: Any) -> Difference:
    then, now = (tuple(json.loads(row[side])) for side in ("then", "now"))
    return Difference(row["aggregate"], row["subject"], row["id"], row["change"], then, now)
