"""Check: a table's whole suite over what the table holds. Publishes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.errors import ConfigError, PlanError
from tidemill.execution.failures import explained
from tidemill.execution.session import session_of
from tidemill.intervals import Grain, interval_at
from tidemill.ledger import log
from tidemill.ledger.verdicts import Result, Verdict
from tidemill.model import Action, Expectation, Pipeline, Suite
from tidemill.model.expectations import Runs
from tidemill.planning.selection import Request
from tidemill.quality.check import check as check_fits
from tidemill.quality.gx_run import judged_in_gx
from tidemill.quality.verdict import with_results
from tidemill.quality.watch import judged

if TYPE_CHECKING:
    from tidemill.engine import Engine


@dataclass(frozen=True, slots=True)
class Checked:
    """What a table's suite finds of the table: every expectation, in the suite's order, with its result.

    ``start`` and ``end``: the range that was looked at, of whole intervals; None where it has no such end.
    """

    pipeline: str
    version: int
    rows: int
    start: datetime | None
    end: datetime | None
    results: tuple[tuple[Expectation, Result], ...]

    @property
    def unmet(self) -> tuple[tuple[Expectation, Result], ...]:
        """The expectations that are not met."""
        return tuple(each for each in self.results if not each[1].met)

    @property
    def holds(self) -> bool:
        """Whether every expectation whose action is ``fail`` is met."""
        return not any(expectation.action is Action.FAIL for expectation, _ in self.unmet)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pipeline": self.pipeline,
            "version": self.version,
            "rows": self.rows,
            "from": self.start.isoformat() if self.start else None,
            "to": self.end.isoformat() if self.end else None,
            "holds": self.holds,
            "results": [_as_json(*each) for each in self.results],
        }


def _as_json(expectation: Expectation, result: Result) -> dict[str, Any]:
    of = {
        "action": expectation.action.value,
        "severity": expectation.severity,
        "runs": expectation.runs.value,
        "where": expectation.where,
    }
    return asdict(result) | of


def check(engine: Engine, name: str, request: Request, *, say: Callable[[str], None]) -> Checked:
    """See :meth:`tidemill.Engine.check`."""
    pipeline = engine.project.pipeline(name)
    suite = pipeline.quality.suite
    if suite is None:
        raise ConfigError(
            f"{name} has no suite for the rows of its table",
            next_step="name one: quality: {suite: ...}; suites of inputs are judged as rows come in",
            pipeline=name,
        )
    version = log.last_version(pipeline.table.path)
    if version is None:
        raise PlanError(f"{name} has no table yet", next_step=f"tidemill run {name}", pipeline=name)
    if pipeline.grain is Grain.ALL and (request.start or request.end):
        raise PlanError(
            f"{name} has one interval, all of time",
            next_step="leave --from and --to out",
            pipeline=name,
        )
    start = interval_at(pipeline.grain, request.start).start if request.start else None
    end = _whole_end(pipeline.grain, request.end) if request.end else None
    if start and end and start >= end:
        raise PlanError("the range is empty", next_step="--to is not included")
    # A session of its own: GX leaves views in it.
    session = session_of(engine.spark, pipeline)
    try:
        frame = _rows(session, pipeline, version, start, end)
        verdict, rows = _judged(session, suite, frame, say)
    except Exception as error:
        raise explained(error, pipeline) from error
    found = {result.id: result for result in verdict.results}
    results = tuple((each, found[each.id]) for each in suite.expectations)
    return Checked(name, version, rows, start, end, results)


def _judged(
    session: SparkSession, suite: Suite, frame: DataFrame, say: Callable[[str], None]
) -> tuple[Verdict, int]:
    check_fits(suite, frame.schema, session)
    say("one pass over the table")
    verdict, rows = judged(suite, frame)
    # Over the table, unique means unique in the range.
    plain = suite.model_copy(
        update={"expectations": tuple(e.model_copy(update={"within": None}) for e in suite.expectations)}
    )
    if plain.that_run(Runs.GX):
        say("what only Great Expectations answers")
        verdict = with_results(suite, verdict, judged_in_gx(plain, frame))
    return verdict, rows


def _rows(
    session: SparkSession, pipeline: Pipeline, version: int, start: datetime | None, end: datetime | None
) -> DataFrame:
    """The rows of the range as the transform gave them: without the column that places them."""
    frame = session.read.format("delta").option("versionAsOf", version).load(pipeline.table.path)
    if pipeline.grain is Grain.ALL:
        return frame
    place = F.col(f"`{pipeline.partition_column}`")
    if start is not None:
        frame = frame.where(place >= _bound(start, pipeline.grain))
    if end is not None:
        frame = frame.where(place < _bound(end, pipeline.grain))
    return frame.drop(pipeline.partition_column)


def _bound(moment: datetime, grain: Grain) -> Column:
    return F.lit(moment if grain is Grain.HOUR else moment.date())


def _whole_end(grain: Grain, end: datetime) -> datetime:
    """The end of the interval that ``end`` falls into; itself where it is one."""
    inside = interval_at(grain, end)
    return inside.start if inside.start == end else inside.end
