"""Removes repeated events, by event time rather than by arrival."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.errors import ConfigError
from tidemill.intervals import parse_duration

_FIRST = "_tidemill_first"


def dedup(frame: DataFrame, keys: Sequence[str], time: str, within: str) -> DataFrame:
    """Of each chain of events with equal ``keys``, the first by event time; the same on a stream and on a batch.

    An event whose ``time`` lies at most ``within`` (``"10 minutes"``, ``"1h"``) after another of the same keys
    belongs to that one's chain, and so to the chain before it: an event repeated every five minutes for a day
    is one chain of a day with ``within="10m"``. Nulls in ``keys`` are equal to each other.

    Guarantees:

    - Which row stays does not depend on the order of arrival or on how the input is cut into batches: it is
      the least by ``time``, then by all other columns in their order, nulls first.
    - The columns and their order are those of ``frame``; every row given is one that came in, whole.
    - On a stream a row comes out when its chain is over: when the watermark is ``within`` past the chain's
      last event. ``dropDuplicatesWithinWatermark`` answers at once and keeps whichever came first.

    The pipeline declares ``lookback`` of at least ``within``, and ``lookahead`` of at least the longest chain
    plus ``within``: an interval is held to be complete by then. The output's ``time`` carries no watermark, so
    this is the last stateful step of a pipeline. Every column must have an order: no maps.

    Raises :class:`ConfigError` when a column is not there, or ``within`` is not a positive duration.

    >>> dedup(clicks, ["user", "page"], "at", "10 minutes")  # doctest: +SKIP
    """
    missing = [name for name in (*keys, time) if name not in frame.columns]
    if missing or not keys:
        raise ConfigError(
            f"dedup: the frame has no column {missing[0]!r}"
            if missing
            else "dedup: name at least one key column",
            next_step=f"the frame has {', '.join(frame.columns)}",
        )
    span = parse_duration(within)
    milliseconds = round(span.total_seconds() * 1000)
    if milliseconds <= 0:
        raise ConfigError("dedup: within is 0", next_step="say how far apart repeats may be: 10 minutes")
    ordered = [time, *(name for name in frame.columns if name != time)]
    whole = F.struct(*[F.col(f"`{name}`") for name in ordered])
    chain = F.session_window(F.col(f"`{time}`"), f"{milliseconds} milliseconds")
    first = frame.groupBy(chain, *[F.col(f"`{name}`") for name in keys]).agg(F.min(whole).alias(_FIRST))
    return first.select(*[F.col(f"{_FIRST}.`{name}`").alias(name) for name in frame.columns])
