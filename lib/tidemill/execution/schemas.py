"""Learns the schemas that Avro values were written with: at a run's start, in a batch that brings a new id, at a release.

What is learnt is kept (:mod:`tidemill.ledger.schemas`) before a batch is published that needs it. A query decodes with the
schemas that it began with; where a batch finds that there are more, nothing is published, and the query begins again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.execution import quarantine
from tidemill.ledger import log, schemas
from tidemill.ledger.schemas import Writers
from tidemill.model import Pipeline, Registry
from tidemill.sources import avro, registry
from tidemill.sources.live import observed

_UNKNOWN = re.compile(rf"{avro.UNKNOWN[0]}(\d+){avro.UNKNOWN[1]}")


class StartAgain(Exception):  # not an error: how a query is told to begin again
    """Raised in a batch, before it publishes, that needs another query than this; the message says what it begins again with."""


def learn_listed(spark: SparkSession, pipeline: Pipeline) -> dict[str, dict[int, schemas.Writer]]:
    """Learn what registries of files hold; give all that is known. Raises :class:`SourceError` as they do."""
    for name, place in _registries(pipeline):
        _learn(spark, pipeline, name, place, registry.listed(place))
    return schemas.read(pipeline.table.state_path)


def check_batch(
    spark: SparkSession, pipeline: Pipeline, began: Mapping[str, Writers], seen: Mapping[str, Any]
) -> None:
    """Raise :class:`StartAgain` where more schemas are known than the query ``began`` with, or can be learnt now.

    Ids that the registry does not have are no reason to stop: their records are set aside. Raises
    :class:`SourceError` when the registry cannot be asked.
    """
    for name, place in _registries(pipeline):
        _learn(spark, pipeline, name, place, seen.get(observed(name), {}).get("unknown_ids") or ())
        if schemas.read(pipeline.table.state_path).get(name, {}) != began.get(name, {}):
            raise StartAgain("with the schemas that it has learnt")


def learn_set_aside(spark: SparkSession, pipeline: Pipeline, where: str) -> None:
    """Ask the registry again for the ids of rows in the quarantine. Raises :class:`SourceError` as it does."""
    for name, place in _registries(pipeline):
        _learn(spark, pipeline, name, place, _set_aside(spark, pipeline, name, where))


def _registries(pipeline: Pipeline) -> Iterator[tuple[str, Registry]]:
    for name, each in pipeline.inputs.items():
        if each.kafka is not None and each.kafka.registry is not None:
            yield name, each.kafka.registry


def _learn(spark: SparkSession, pipeline: Pipeline, name: str, place: Registry, ids: Iterable[int]) -> None:
    known = schemas.read(pipeline.table.state_path).get(name, {})
    found = registry.find(place, [each for each in ids if each not in known])
    if found:
        before = _set_aside(spark, pipeline, name)
        learnt = {each: replace(writer, late=each in before) for each, writer in found.items()}
        schemas.add(pipeline.table.state_path, name, learnt)


def _set_aside(spark: SparkSession, pipeline: Pipeline, name: str, where: str = "true") -> set[int]:
    """The ids of records that the quarantine holds because their schema was not known."""
    if not log.exists(pipeline.quarantine_path):
        return set()
    rows = quarantine.standing(spark, pipeline, f"input = '{name}' AND interval IS NULL AND ({where})")
    reasons = rows.select(F.explode("reasons").alias("reason")).distinct().collect()
    return {int(found[1]) for row in reasons if (found := _UNKNOWN.fullmatch(row.reason))}
