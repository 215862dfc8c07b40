"""Decides commands again, in the order in which they were decided, by today's code, beside what was decided then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.deciding.carried import carried, opened
from tidemill.deciding.fold import WHOLE, as_asked
from tidemill.deciding.frame import POSITION, command_columns, commands_of
from tidemill.erasure.seal import without_erased
from tidemill.eventsourcing import Domain, EventEnvelope, Refusal, Standing, handle
from tidemill.eventsourcing.interpreter import Outcome
from tidemill.eventsourcing.messages import Unfit


class Change(StrEnum):
    """What today's code makes of a command, against what was made of it."""

    SAME = "same"
    OTHER_EVENTS = "other events"
    NOW_ACCEPTED = "now accepted"
    NOW_REFUSED = "now refused"
    OTHER_REASON = "other reason"
    """Refused then and now, not for the same reason."""


COLUMNS = (
    "aggregate STRING, subject STRING, id STRING, position BIGINT, change STRING, then STRING, now STRING"
)
"""``then`` and ``now``: JSON, null where they are the same."""
_SCHEMA = pa.schema(
    [
        ("aggregate", pa.string()),
        ("subject", pa.string()),
        ("id", pa.string()),
        ("position", pa.int64()),
        ("change", pa.string()),
        ("then", pa.string()),
        ("now", pa.string()),
    ]
)


def again(commands: DataFrame, events: DataFrame, refused: DataFrame, domain: Domain) -> DataFrame:
    """A row of :data:`COLUMNS` for each command that was decided and is among ``commands``.

    Where different commands came with one id, the one was decided that came first. A rejection says which; of events it is the one of
    which today's code makes them, and where it makes them of none, the earliest by its time. Aggregates are folded from nothing:
    where today's code decides otherwise, what follows is decided on what it made. Commands that have no outcome yet, and
    those without an id, are left out.
    """
    key = ["aggregate", "subject", "id"]
    nobody = F.lit(None).cast(f"STRUCT<time: TIMESTAMP, {WHOLE}: STRING>").alias("told")
    sent = F.sort_array(F.collect_set(F.struct("time", WHOLE)))
    asked = commands_of(commands).groupBy(*key).agg(sent.alias("asked"))
    of_events = events.select(
        "aggregate", "subject", F.col("causationid").alias("id"), _outcome(F.lit(None), F.lit(None)), nobody
    )
    told = command_columns(refused)
    of_refusals = refused.where("id IS NOT NULL").select(
        *[told[name].alias(name) for name in key],
        _outcome(F.col("kind"), F.col("reason")),
        F.struct(told["time"].alias("time"), told[WHOLE].alias(WHOLE)).alias("told"),
    )
    then = (
        of_events.unionByName(of_refusals)
        .groupBy(*key)
        .agg(
            F.to_json(F.sort_array(F.collect_list("outcome"))).alias("outcomes"),
            F.min("outcome.position").alias(POSITION),
            F.first("told", ignorenulls=True).alias("told"),
        )
    )
    chosen = F.when(F.col("told").isNotNull(), F.array("told")).otherwise(F.col("asked"))
    ordered = asked.join(then, key).select(*key, chosen.alias("asked"), "outcomes", POSITION)
    parted = ordered.repartition("aggregate", "subject").sortWithinPartitions(
        "aggregate", "subject", POSITION
    )
    return parted.mapInArrow(_Again(carried(domain)), COLUMNS)


def _outcome(kind: Any, reason: Any) -> Any:
    return F.struct(
        "version",
        "type",
        "data",
        "schemaversion",
        kind.cast("string").alias("kind"),
        reason.cast("string").alias("reason"),
        F.col(POSITION).alias("position"),
    ).alias("outcome")


@dataclass(frozen=True)
class _Again:
    domain: bytes

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        domain = opened(self.domain)
        rows = (row for batch in batches for row in batch.to_pylist())
        ready: list[dict[str, Any]] = []
        for _, group in groupby(rows, key=itemgetter("aggregate", "subject")):
            for made in _of_aggregate(domain, group):
                ready.append(made)
                if len(ready) == 8192:
                    yield pa.RecordBatch.from_pylist(ready, _SCHEMA)
                    ready = []
        if ready:
            yield pa.RecordBatch.from_pylist(ready, _SCHEMA)


def _of_aggregate(domain: Domain, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    standing = Standing()
    for row in rows:
        then = [_as_it_was(domain, each) for each in json.loads(row["outcomes"])]
        tried = (_tried(domain, standing, each, then) for each in row["asked"])
        first = next(tried)
        standing, now, change = next((each for each in (first, *tried) if each[2] is Change.SAME), first)
        differs = change is not Change.SAME
        yield {
            **{name: row[name] for name in ("aggregate", "subject", "id", POSITION)},
            "change": change.value,
            "then": json.dumps(then) if differs else None,
            "now": json.dumps(now) if differs else None,
        }


def _tried(
    domain: Domain, standing: Standing, asked: dict[str, Any], then: Sequence[dict[str, Any]]
) -> tuple[Standing, list[dict[str, Any]], Change]:
    after, made = handle(domain, standing, as_asked(asked["whole"], asked["time"]))
    now = [_as_it_is(each) for each in made]
    return after, now, compared(then, now)


def compared(then: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> Change:
    """How two outcomes of one command differ. What is sealed of somebody who was erased since is the same, whatever it was."""
    was, is_ = without_erased(*(json.dumps(list(each)) for each in (then, now)))
    if was == is_:
        return Change.SAME
    refused_then, refused_now = ("refused" in outcomes[0] for outcomes in (then, now))
    if refused_then and refused_now:
        return Change.OTHER_REASON
    if refused_then or refused_now:
        return Change.NOW_ACCEPTED if refused_then else Change.NOW_REFUSED
    return Change.OTHER_EVENTS


def _as_it_was(domain: Domain, outcome: dict[str, Any]) -> dict[str, Any]:
    if "kind" in outcome:
        return {"refused": outcome["kind"], "reason": outcome.get("reason")}
    try:
        event = domain.event(outcome["type"], outcome["schemaversion"], outcome["data"])
    except Unfit as error:
        return {"type": outcome["type"], "unreadable": str(error)}
    return {"type": outcome["type"], "data": json.loads(event.model_dump_json())}


def _as_it_is(outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Refusal(kind=kind, reason=reason):
            return {"refused": kind.value, "reason": reason}
        case EventEnvelope(type=name, data=data):
            return {"type": name, "data": json.loads(data)}
