"""What an archive holds of a topic, by its own ledger: the part of a pin that says what history is read from it. No JVM."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tidemill.config import Project
from tidemill.errors import SourceError
from tidemill.ledger import inputs, topics
from tidemill.ledger.judge import State
from tidemill.model import KafkaSource, Pipeline
from tidemill.view import View, look

_FIT = frozenset({State.CLEAN, State.EXPIRED})


def archive_pin(
    project: Project, pipeline: Pipeline, name: str, source: KafkaSource, end: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What the archive of an input holds now of the partitions in ``end``; None where it has none, or has landed nothing.

    Raises :class:`SourceError` when its ledger does not prove that it holds every record, or when one of the topics is
    not the one that the pipeline has read.
    """
    if source.archive is None:
        return None
    view = look(project, source.archive.pipeline)
    archive, (landed,) = view.pipeline, view.pipeline.inputs
    _check_whole(view)
    read = (view.coverage.source_end or {}).get(landed) or {}
    if read.get("offset") is None:
        return None
    mine = topics.read(pipeline.table.state_path).get(name, {})
    its = topics.read(archive.table.state_path).get(landed, {})
    for topic in sorted(end.keys() & read["offset"].keys()):
        _check_same(view, topic, source, mine.get(topic) or None, its.get(topic) or None)
    kept = view.coverage.kept
    began = inputs.first_offsets(f"{archive.table.state_path}/checkpoint", read["place"])
    return {
        "pipeline": archive.name,
        "table": archive.table.path,
        "version": view.coverage.version,
        "began": _only(began, end),
        "start": _only(kept.start, end) if kept else {},
        "end": _only(read["offset"], end),
        "since": kept.since if kept else None,
    }


def described(archive: Mapping[str, Any], begin: Mapping[str, Any], around: timedelta | None) -> str:
    """What a pin's archive is, in words; and what of a history that began at ``begin`` it has no longer."""
    upto = inputs.describe_offsets(archive["end"], most=2) if archive["end"] else "nothing of it"
    said = f"up to {upto} from {archive['pipeline']} at version {archive['version']}"
    gone = any(
        begin.get(topic, {}).get(part, 0) < offset
        for topic, parts in archive["start"].items()
        for part, offset in parts.items()
    )
    if not gone:
        return said
    since = datetime.fromtimestamp(archive["since"], UTC)
    which = (
        "every interval needs"
        if around is None
        else f"intervals whose input begins before {since + around:%Y-%m-%dT%H:%M} need"
    )
    return f"{said}, which keeps {since:%Y-%m-%dT%H:%M} and later: {which} what went from the broker, if it still has that"


def _only(offsets: Mapping[str, Mapping[str, int]], end: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    return {
        topic: {part: int(at) for part, at in parts.items() if part in end[topic]}
        for topic, parts in offsets.items()
        if topic in end
    }


def _check_whole(view: View) -> None:
    name, coverage = view.pipeline.name, view.coverage
    wrong = next((each for each in view.judged if each.state not in _FIT), None)
    if wrong is not None:
        back = f"put {name} back as it was then, or: " if wrong.state is State.STALE else ""
        raise _unfit(
            name,
            f"its interval {wrong.interval} is {wrong.state.value}: {wrong.why}",
            f"{back}tidemill backfill {name} --{wrong.state.value}, while the broker still has its records",
        )
    if coverage.broken is not None:
        raise _unfit(name, coverage.broken, "land the records in a new table, from a new checkpoint")
    if coverage.quarantined or coverage.dropped:
        raise _unfit(
            name,
            f"{coverage.quarantined + coverage.dropped} records were set aside or dropped, and are not in it",
            f"see: tidemill quarantine {name}. The broker's time of a record must be one of the years 1000 to 9998; with "
            "message.timestamp.type=LogAppendTime it always is. Land the records in a new table",
        )


def _check_same(view: View, topic: str, source: KafkaSource, mine: str | None, its: str | None) -> None:
    name, landed = view.pipeline.name, next(iter(view.pipeline.inputs.values())).kafka
    if landed is None or (mine is not None and mine == its):
        return
    if mine is not None and its is not None:
        raise _unfit(
            name,
            f"the topic {topic} that it has landed is not the one that was read from {source.servers}: it was made anew, "
            "or is another broker's",
            "land this topic in a table of its own",
            topic=topic,
        )
    named = mine is None and its is None and topic in landed.named and topic in source.named
    if not named or landed.servers != source.servers:  # else: a broker that gives topics no ids
        raise _unfit(
            name,
            f"it is not known yet whether the topic {topic} that it has landed is the one that was read",
            f"run {name}, and then this pipeline, once more: a run notes the ids of topics when it starts",
            topic=topic,
        )


def _unfit(name: str, why: str, next_step: str, **params: Any) -> SourceError:
    return SourceError(
        f"the archive {name} does not serve as history: {why}", next_step=next_step, archive=name, **params
    )
