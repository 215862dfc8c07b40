"""The records of a topic that an archive has: which part of a history it serves, and that part as a frame of records.

A pin says what the archive held at a version of its table: of each partition every record from ``start`` on and below
``end``. Of a partition whose history begins there, the archive serves all it has, and the broker what comes after. A
partition whose history begins before is the broker's alone: where it holds the beginning, it holds all that follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.errors import SourceError

Offsets = dict[str, dict[str, int]]
"""An offset by topic and partition."""

Reach = Sequence[tuple[datetime, datetime]]
"""Ranges of event time."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A history in two: offsets from and to, of what the archive serves and of what the broker does."""

    archived_from: Offsets
    archived_to: Offsets
    start: Offsets
    end: Offsets


def parted(pin: Mapping[str, Any], reach: Reach | None = None, around: timedelta | None = None) -> Parts:
    """Who serves what of a pin. A partition that began after the stream did begins at 0.

    ``reach``: the event times that are wanted, where those and the broker's lie at most ``around`` apart: then it is
    enough that nothing of that time has gone from the archive.

    >>> pin = {"start": {"t": {"0": 2}}, "end": {"t": {"0": 9, "1": 4}},
    ...        "archive": {"start": {"t": {"0": 0, "1": 3}}, "end": {"t": {"0": 7, "1": 4}}, "since": None}}
    >>> parted(pin)
    Parts(archived_from={'t': {'0': 2}}, archived_to={'t': {'0': 7}}, start={'t': {'0': 7, '1': 0}}, end={'t': {'0': 9, '1': 4}})
    """
    parts = Parts({}, {}, {}, {})
    archive = pin.get("archive")
    for topic, offsets in pin["end"].items():
        for part, last in offsets.items():
            first, until = int(pin["start"].get(topic, {}).get(part, 0)), int(last)
            landed = _of(archive, "end", topic, part) if archive else None
            if landed is not None and first < until and _whole(archive, topic, part, first, reach, around):
                here = min(landed, until)
                if first < here:
                    parts.archived_from.setdefault(topic, {})[part] = first
                    parts.archived_to.setdefault(topic, {})[part] = here
                    first = here
            if first < until:
                parts.start.setdefault(topic, {})[part] = first
                parts.end.setdefault(topic, {})[part] = until
    return parts


def _whole(
    archive: Any, topic: str, part: str, first: int, reach: Reach | None, around: timedelta | None
) -> bool:
    began = _of(archive, "began", topic, part) or 0
    if first < began:
        return False
    if first >= (_of(archive, "start", topic, part) or 0):
        return True
    if reach is None or around is None or not reach:
        return False
    return min(start for start, _ in reach).timestamp() - around.total_seconds() >= int(archive["since"])


def _of(archive: Any, what: str, topic: str, part: str) -> int | None:
    found = archive.get(what, {}).get(topic, {}).get(part)
    return None if found is None else int(found)


def records(
    spark: SparkSession,
    pin: Mapping[str, Any],
    parts: Parts,
    columns: Sequence[str],
    reach: Reach | None = None,
    around: timedelta | None = None,
) -> DataFrame:
    """What the archive serves, its pinned version and no later one. Raises :class:`SourceError` when that is gone."""
    archive = pin["archive"]
    try:
        table = (
            spark.read.format("delta").option("versionAsOf", int(archive["version"])).load(archive["table"])
        )
    except AnalysisException as error:
        raise SourceError(
            f"version {archive['version']} of the archive {archive['pipeline']} is not to be had any more: "
            f"{str(error).splitlines()[0][:300]}",
            next_step="plan again: the archive as it is now has all that it keeps",
            table=archive["table"],
        ) from None
    firsts, ends = _flat(parts.archived_from), _flat(parts.archived_to)
    at = F.concat_ws("/", "topic", "partition")
    # The bounds over all let the table's statistics pass files over; who is in them is judged one by one.
    frame = table.where((F.col("offset") >= min(firsts.values())) & (F.col("offset") < max(ends.values())))
    frame = frame.where((F.col("offset") >= _by(firsts, at)) & (F.col("offset") < _by(ends, at)))
    if reach is not None and around is not None:
        near = F.lit(False)  # a column, not a flag
        for start, end in reach:
            moment = F.col("timestamp")
            near = near | ((moment >= F.lit(start - around)) & (moment <= F.lit(end + around)))
        frame = frame.where(near)
    return frame.select(*columns)


def _flat(offsets: Offsets) -> dict[str, int]:
    return {f"{topic}/{part}": offset for topic, each in offsets.items() for part, offset in each.items()}


def _by(offsets: Mapping[str, int], at: Any) -> Any:
    pairs = [F.lit(each) for pair in offsets.items() for each in pair]
    return F.try_element_at(F.create_map(*pairs), at)


def lacking(error: SourceError, archive: Mapping[str, Any], around: timedelta | None) -> SourceError:
    """What to say when the broker lacks records that the archive does not serve either."""
    topic, part = str(error.params.get("topic")), str(error.params.get("partition"))
    landed = _of(archive, "end", topic, part)
    first = max(_of(archive, "start", topic, part) or 0, _of(archive, "began", topic, part) or 0)
    holds = (
        f"has offsets {first} to {landed - 1}"
        if landed is not None and landed > first
        else "has nothing of it"
    )
    next_step = (
        f"run {archive['pipeline']}, and plan again: it lands what the broker still has. What neither of them holds is no "
        "history any more: have the broker keep records until they have landed (retention.ms)"
    )
    if archive["since"] is not None:
        since = datetime.fromtimestamp(archive["since"], UTC)
        holds += f", and nothing from before {since:%Y-%m-%dT%H:%M} (retain)"
        next_step = (
            f"choose intervals whose input begins at {since + around:%Y-%m-%dT%H:%M} or later"
            if around is not None
            else "where event times are bound to the broker's (archive: within), intervals after that can be computed again"
        ) + "; what is computed stays as it is"
    return SourceError(
        f"{error.message}; the archive {archive['pipeline']}, at version {archive['version']}, {holds}",
        next_step=next_step,
        **error.params,
    )
