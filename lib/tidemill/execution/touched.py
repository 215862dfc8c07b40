"""What a live batch's input touched: from buckets of event time to ranges and to intervals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from tidemill.ledger import edge
from tidemill.model import Pipeline
from tidemill.planning.timed import timed
from tidemill.sources.live import BUCKET_SECONDS
from tidemill.view import shape_of

_MOST_RANGES = 32


def joined(buckets: Iterable[int]) -> list[tuple[int, int]]:
    """Buckets, in order, as exact ``[from, to)`` ranges in epoch seconds: neighbours are one."""
    ranges: list[tuple[int, int]] = []
    for bucket in buckets:
        start, end = bucket * BUCKET_SECONDS, (bucket + 1) * BUCKET_SECONDS
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def told(pipeline: Pipeline, good: Iterable[int], left_out: Iterable[int]) -> dict[str, Any]:
    """What the fact of a batch says of its input's event times; ``left_out``: those that rules left out.

    Rules may change: an interval is known by what was left out of it, too.
    """
    taken, out = set(good), set(left_out)
    return {
        "touched": touched_ranges(sorted(taken)),
        "ruled_out": touched_ranges(sorted(out - taken)),
        "reached": reached(pipeline, sorted(taken | out)),
        "reach": edge.reach(shape_of(pipeline)),
        "timed": timed(pipeline),
    }


def touched_ranges(buckets: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Buckets as few ``[from, to)`` ranges in epoch seconds, the nearest joined until they are few enough."""
    ranges = joined(buckets)
    while len(ranges) > _MOST_RANGES:
        gaps = [ranges[i + 1][0] - ranges[i][1] for i in range(len(ranges) - 1)]
        i = gaps.index(min(gaps))
        ranges[i : i + 2] = [(ranges[i][0], ranges[i + 1][1])]
    return tuple(ranges)


def reached(pipeline: Pipeline, buckets: Sequence[int]) -> tuple[str, ...]:
    """The intervals whose input these buckets belong to."""
    return _labels(pipeline, joined(buckets))


def below(pipeline: Pipeline, buckets: Sequence[int], watermark: int) -> tuple[str, ...]:
    """The intervals whose input lies in these buckets and not above the watermark (epoch milliseconds)."""
    end = watermark // 1000 + 1
    ranges = joined(b for b in buckets if b * BUCKET_SECONDS * 1000 <= watermark)
    return _labels(pipeline, [(start, min(until, end)) for start, until in ranges])


def _labels(pipeline: Pipeline, ranges: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(
        sorted(
            {
                interval.label
                for start, end in ranges
                for interval in pipeline.intervals_reading(_moment(start), _moment(end))
            }
        )
    )


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
