"""The suites of a pipeline, riding on the frames of one stream or one chunk: what they see is read when the frames have run.

Nothing is run for it: expectations of rows and aggregates are observed, those of columns are answered by the schema. A
stream's observations are read from the batch, see :class:`tidemill.execution.streamplan.Inspector`; those of a batch frame
arrive with its action.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Observation

from tidemill.ledger.verdicts import Result, Verdict
from tidemill.model import Quality, Suite
from tidemill.quality.aggregates import Aggregated, aggregated, observed
from tidemill.quality.columns import Found, found
from tidemill.quality.rules import Rules

Seen = Mapping[str, Mapping[str, Any]]
"""What each observation of a streaming batch saw, by its name."""


@dataclass(frozen=True, slots=True)
class _Watch:
    """One suite over one frame. ``name``: the observation's, in a stream."""

    of: str
    suite: Suite
    rules: Rules
    columns: list[Column]
    empty: DataFrame
    observation: Observation | None

    @property
    def name(self) -> str:
        return f"tidemill rules of {self.of}"

    def of_columns(self) -> Verdict:
        return Verdict(self.of, tuple(_valued(each) for each in found(self.suite, self.empty.schema)))

    def verdict(self, seen: Mapping[str, Any]) -> Verdict:
        counted = tuple(
            Result(each.expectation.id, each.met, each.rows, each.looked_at, each.unexpected)
            for each in self.rules.counted(seen)
        )
        valued = tuple(_valued(each) for each in aggregated(self.suite, seen))
        by_id = {each.id: each for each in (*counted, *valued, *self.of_columns().results)}
        return Verdict(self.of, tuple(by_id[e.id] for e in self.suite.expectations if e.id in by_id))

    def seen(self, of_stream: Seen) -> Mapping[str, Any]:
        if not self.columns:
            return {}
        if self.observation is None:
            return of_stream.get(self.name) or self._nothing()
        # Spark may find out, before it runs anything, that no row gets here; then nothing was observed.
        row = self.observation._jo.getRow()  # type: ignore[union-attr]  # noqa: SLF001  `get` fails on it
        return self.observation.get if row.length() else self._nothing()

    def _nothing(self) -> Mapping[str, Any]:
        row = self.empty.agg(*self.columns).first()
        return row.asDict() if row is not None else {}


class Watched:
    """The suites of one pipeline over the frames of one stream or chunk.

    Give it each input (:meth:`inputs`) and the output (:meth:`output`) as the frames are built; then ask for the
    :meth:`verdicts`.
    """

    def __init__(self, quality: Quality) -> None:
        self._quality = quality
        self._watches: list[_Watch] = []

    def inputs(self, frames: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
        """The inputs, by name, with their suites riding on them."""
        suites = self._quality.inputs
        return {
            name: self._watch(name, suites[name], frame) if name in suites else frame
            for name, frame in frames.items()
        }

    def output(self, frame: DataFrame) -> DataFrame:
        """The rows of the table, with their suite riding on them."""
        suite = self._quality.suite
        return frame if suite is None else self._watch("", suite, frame)

    def _watch(self, of: str, suite: Suite, frame: DataFrame) -> DataFrame:
        rules = Rules.of(suite, frame.schema)
        columns = [*rules.counts(), *observed(suite, frame.schema)]
        empty = frame.sparkSession.createDataFrame([], frame.schema)
        observation = None if frame.isStreaming or not columns else Observation()
        watch = _Watch(of, suite, rules, columns, empty, observation)
        self._watches.append(watch)
        return frame.observe(observation or watch.name, *columns) if columns else frame

    def of_columns(self) -> tuple[Verdict, ...]:
        """What the suites find of the columns; nothing need have run."""
        return tuple(each.of_columns() for each in self._watches)

    def verdicts(self, of_stream: Seen = {}) -> tuple[Verdict, ...]:  # noqa: B006  it is only read
        """What each suite found; of a batch frame, once its action has run. ``of_stream``: a stream's observations."""
        return tuple(each.verdict(each.seen(of_stream)) for each in self._watches)


def judged(suite: Suite, frame: DataFrame) -> Verdict:
    """What a suite finds of a batch frame, in one job; what runs in GX is left alone."""
    rules = Rules.of(suite, frame.schema)
    columns = [*rules.counts(), *observed(suite, frame.schema)]
    row = frame.agg(*columns).first() if columns else None
    return _Watch("", suite, rules, columns, frame, None).verdict(row.asDict() if row is not None else {})


def _valued(each: Aggregated | Found) -> Result:
    return Result(each.expectation.id, each.met, value=_plain(each.value))


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON has no word for as a text."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return str(value)
