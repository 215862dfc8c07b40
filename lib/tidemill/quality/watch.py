"""The suites of a pipeline, riding on the frames of one stream or one chunk: what they see is read when the frames have run.

Nothing is run for it: expectations of rows and aggregates are observed, those of columns are answered by the schema. A
stream's observations are read from the batch, see :class:`tidemill.execution.streamplan.Inspector`; those of a batch frame
arrive with its action.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from tidemill.folds.carry import STATE
from tidemill.ledger.verdicts import Result, Verdict
from tidemill.model import Pipeline, Quality, Suite
from tidemill.quality.aggregates import OF_COUNTS, Aggregated, aggregated, observed
from tidemill.quality.columns import Found, found
from tidemill.quality.hidden import HIDDEN, Hidden, of_input, of_table
from tidemill.quality.named import check_columns
from tidemill.quality.once import check_once
from tidemill.quality.rules import DROPPED, QUARANTINED, ROWS, Rules

Seen = Mapping[str, Mapping[str, Any]]
"""What each observation of a streaming batch saw, by its name."""

SET_ASIDE = "tidemill_set_aside"
"""The column that marks rows of the table which a rule wants kept in the quarantine; the sink parts them."""

OUTPUT = ""
"""What the rows of the table are called where an input would have its name."""

_BUCKETS, _ALL = "buckets", "all"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows that the rules of one suite left out, of all the ``rows`` it judged (None where no rule leaves any out).

    ``buckets``: of a stream's input, the event times that were left out, as the stream notes them.
    """

    quarantined: int = 0
    dropped: int = 0
    rows: int | None = None
    buckets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Watch:
    """One suite over one frame. ``columns``: what is observed; ``blank``: the same, of no rows in particular."""

    of: str
    suite: Suite
    rules: Rules
    columns: list[Column]
    blank: list[Column]
    empty: DataFrame
    observation: Observation | None
    hidden: Hidden = field(default_factory=Hidden)

    @property
    def name(self) -> str:
        """The observation's, in a stream."""
        return f"tidemill rules of {self.of}"

    def observe(self, frame: DataFrame, judged: Column | None = None) -> DataFrame:
        """Rows as they are counted, with their marks where those say which rows are left out."""
        if not self.columns:
            return frame
        seen = self.rules.marked(frame, judged).observe(self.observation or self.name, *self.columns)
        return seen if self.rules.change_rows else self.rules.unmarked(seen)

    def of_columns(self) -> Verdict:
        return Verdict(self.of, tuple(_valued(each) for each in found(self.suite, self.empty.schema)))

    def verdict(self, seen: Mapping[str, Any]) -> Verdict:
        counted = tuple(
            Result(each.expectation.id, each.met, each.rows, each.looked_at, each.unexpected)
            for each in self.rules.counted(seen)
        )
        valued = tuple(self._valued(each) for each in aggregated(self.suite, seen))
        by_id = {each.id: each for each in (*counted, *valued, *self.of_columns().results)}
        return Verdict(self.of, tuple(by_id[e.id] for e in self.suite.expectations if e.id in by_id))

    def _valued(self, each: Aggregated) -> Result:
        column, result = each.expectation.kwargs.get("column"), _valued(each)
        if column is None or result.value is None or each.expectation.type in OF_COUNTS:
            return result
        # A batch may be of one row: then a mean says as much as a maximum.
        return replace(result, value=HIDDEN) if self.hidden(column) else result

    @property
    def ran(self) -> bool:
        """Whether a batch frame's action came by. Spark does not run what cannot matter to the result, such as one side
        of a join whose other side has no rows.
        """
        if self.observation is None:
            return True
        row = self.observation._jo.getRow()  # type: ignore[union-attr]  # noqa: SLF001  `get` fails on none
        return bool(row.length())

    def seen(self, of_stream: Seen) -> Mapping[str, Any] | None:
        """What was observed; None where no row got here."""
        if self.observation is None:
            return of_stream.get(self.name)
        return self.observation.get if self.ran else None


class Watched:
    """The suites of one pipeline over the frames of one stream or chunk.

    Give it each input (:meth:`streamed` or :meth:`history`) and the output (:meth:`output`) as the frames are built;
    then ask for the :meth:`verdicts`, and what was :meth:`left_out`.
    """

    def __init__(self, quality: Quality, hidden: Mapping[str, Hidden] = {}) -> None:
        self._quality = quality
        self._hidden = hidden
        self._watches: dict[str, _Watch] = {}
        self._nothing: dict[str, Mapping[str, Any]] = {}

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self:
        """The suites of a pipeline; what they see of persons is not told."""
        hidden = {name: of_input(pipeline, name) for name in pipeline.inputs}
        return cls(pipeline.quality, {**hidden, OUTPUT: of_table(pipeline)})

    def streamed(
        self, name: str, frame: DataFrame, names: list[str], bad: Column, bucket: Column
    ) -> tuple[DataFrame, Column]:
        """An input's stream with its suite riding on it, and which of its rows are left out: never null.

        ``names``: the row's own columns. ``bad``: rows that cannot be taken in at all; they are not judged.
        ``bucket``: a row's event time as the stream notes it.
        """
        suite = self._quality.inputs.get(name)
        if suite is None:
            return frame, bad
        rows = frame.select(*[F.col(f"`{each}`") for each in names])
        watch = self._watch(name, suite, rows, ~bad, bucket)
        return watch.observe(frame, ~bad), bad | watch.rules.left_out

    def history(self, name: str, frame: DataFrame) -> DataFrame:
        """An input's history, readable rows alone, with its suite riding on it, without the rows that are left out."""
        suite = self._quality.inputs.get(name)
        if suite is None:
            return frame
        watch = self._watch(name, suite, frame)
        judged, rules = watch.observe(frame), watch.rules
        return rules.unmarked(judged.where(~rules.left_out)) if rules.change_rows else judged

    def output(self, frame: DataFrame) -> DataFrame:
        """The rows of the table, with their suite riding on them: without those that are dropped, and with a column
        :data:`SET_ASIDE` where rules quarantine.

        Raises :class:`PlanError` where rows of the inputs would be counted twice, see :mod:`.once`, and, as what observes
        the inputs does, :class:`ConfigError` where the suite names a column that is not there.
        """
        self.check_once(frame)
        suite = self._quality.suite
        if suite is None:
            return frame
        if STATE in frame.columns:
            # States of a fold, on their way beside its rows, are not the table's.
            mine = F.col(STATE).isNull()
            watch = self._watch(OUTPUT, suite, frame.drop(STATE), mine)
            judged, rules = watch.observe(frame, mine), watch.rules
        else:
            watch = self._watch(OUTPUT, suite, frame)
            judged, rules = watch.observe(frame), watch.rules
        if rules.change_rows:
            judged = judged.where(~rules.dropped)
        return rules.unmarked(judged.withColumn(SET_ASIDE, rules.quarantined) if rules.keep_rows else judged)

    def check_once(self, frame: DataFrame) -> None:
        """Raise :class:`PlanError` where what a transform made would have rows of the inputs counted twice."""
        if frame.isStreaming:
            check_once(frame)  # with or without suites: a stream's input is always counted
            return
        names = {
            str(each.observation._jo.name())  # type: ignore[union-attr]  # noqa: SLF001  pyspark knows its own names alone
            for each in self._watches.values()
            if each.observation is not None
        }
        if names:
            check_once(frame, names)

    def _watch(
        self,
        of: str,
        suite: Suite,
        frame: DataFrame,
        judged: Column | None = None,
        bucket: Column | None = None,
    ) -> _Watch:
        # Else Spark says it, and neither file nor line.
        check_columns(suite, frame.schema)
        rules = Rules.of(suite, frame.schema)
        columns, blank = (_columns(suite, rules, frame.schema, rows) for rows in (judged, None))
        if bucket is not None and judged is not None and rules.change_rows:
            columns.append(F.collect_set(F.when(rules.left_out, bucket)).alias(_BUCKETS))
        empty = frame.sparkSession.createDataFrame([], frame.schema)
        observation = None if frame.isStreaming or not columns else Observation()
        watch = _Watch(of, suite, rules, columns, blank, empty, observation, self._hidden.get(of, Hidden()))
        self._watches[of] = watch
        return watch

    def of_columns(self) -> tuple[Verdict, ...]:
        """What the suites find of the columns; nothing need have run."""
        return tuple(each.of_columns() for each in self._watches.values())

    def verdicts(self, of_stream: Seen = {}) -> tuple[Verdict, ...]:  # noqa: B006  it is only read
        """What each suite found; of a batch frame, once its action has run. ``of_stream``: a stream's observations."""
        return tuple(each.verdict(self._seen(each, of_stream)) for each in self._watches.values())

    def may_keep(self, of: str) -> bool:
        """Whether rows of an input's history may be for the quarantine: some were found, or they were not looked at."""
        watch = self._watches.get(of)
        if watch is None or not watch.rules.keep_rows:
            return False
        return not watch.ran or self.left_out(of).quarantined > 0

    def left_out(self, of: str, of_stream: Seen = {}) -> LeftOut:  # noqa: B006  as above
        """How many rows were left out, of an input or the :data:`OUTPUT`; when to ask is as for :meth:`verdicts`."""
        watch = self._watches.get(of)
        if watch is None or not watch.rules.change_rows:
            return LeftOut()
        seen = self._seen(watch, of_stream)
        buckets = tuple(sorted(seen.get(_BUCKETS) or ()))
        return LeftOut(int(seen[QUARANTINED]), int(seen[DROPPED]), int(seen[ROWS]), buckets)

    def _seen(self, watch: _Watch, of_stream: Seen) -> Mapping[str, Any]:
        if not watch.columns:
            return {}
        found = watch.seen(of_stream)
        if found is not None:
            return found
        # What a suite says of no rows is computed once.
        if watch.of not in self._nothing:
            row = watch.rules.marked(watch.empty).agg(*watch.blank).first()
            self._nothing[watch.of] = row.asDict() if row is not None else {}
        return self._nothing[watch.of]


def _columns(suite: Suite, rules: Rules, schema: StructType, of: Column | None) -> list[Column]:
    return [*rules.counts(of), *observed(suite, schema, of)]


def judged(suite: Suite, frame: DataFrame) -> tuple[Verdict, int]:
    """What a suite finds of a batch frame, and its rows, in one job; what runs in GX is left alone."""
    rules = Rules.of(suite, frame.schema)
    columns = _columns(suite, rules, frame.schema, None)
    row = rules.marked(frame).agg(*columns, F.count(F.lit(1)).alias(_ALL)).first()
    assert row is not None  # noqa: S101  an aggregate of all rows is one row
    seen = row.asDict()
    return _Watch(OUTPUT, suite, rules, columns, columns, frame, None).verdict(seen), int(seen[_ALL])


def _valued(each: Aggregated | Found) -> Result:
    return Result(each.expectation.id, each.met, value=_plain(each.value))


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON has no word for as a text."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return str(value)
