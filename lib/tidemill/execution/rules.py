"""A pipeline's suites against its rows: what its inputs bring, and what its transform makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from tidemill.errors import ConfigError, QualityError, SourceError
from tidemill.execution.session import session_of
from tidemill.execution.swap import Staged
from tidemill.ledger.verdicts import Result, Verdict
from tidemill.model import Pipeline, Quality, Suite
from tidemill.model.expectations import Runs
from tidemill.model.quality import Action, Within
from tidemill.quality.check import check
from tidemill.quality.gx_run import judged_in_gx
from tidemill.quality.hidden import without_values
from tidemill.quality.unique import unique_in_batch, unique_in_intervals
from tidemill.quality.verdict import that_saw, with_results
from tidemill.quality.watch import OUTPUT, Watched
from tidemill.sinks.content import read_files
from tidemill.sinks.files import DataFile
from tidemill.sinks.tables import Table
from tidemill.sources.live import input_schema
from tidemill.sources.rows import read_schema
from tidemill.transforms.apply import transform


def refusals(pipeline: Pipeline, verdicts: Iterable[Verdict]) -> list[str]:
    """Why nothing of what was judged may be published: the results of expectations that ``fail`` and are not met."""
    return [
        f"{verdict.whose}: {result.text}"
        for verdict in verdicts
        for result in verdict.results
        if not result.met and result.id in _that_fail(pipeline.quality, verdict.of)
    ]


def _that_fail(quality: Quality, of: str) -> set[str]:
    suite = quality.inputs.get(of) if of else quality.suite
    return {each.id for each in suite.expectations if each.action is Action.FAIL} if suite else set()


def refuse(pipeline: Pipeline, verdicts: Iterable[Verdict], what: str, *, live: bool = False) -> None:
    """Raise :class:`QualityError` where :func:`refusals` has any; ``what`` is refused.

    ``live``: it is one of a stream's batches, for which an expectation that saw no value is no reason.
    """
    problems = refusals(pipeline, that_saw(verdicts) if live else verdicts)
    if problems:
        raise QualityError(
            f"{pipeline.name}: {what} is refused; " + "; ".join(problems),
            next_step="mend the input, the transform or the expectation, and run again; nothing of it was published",
            expectations=problems,
        )


def judged_as_written(spark: SparkSession, pipeline: Pipeline, staged: Staged) -> Staged:
    """A staged chunk with what its files say, and what Great Expectations finds of its rows, where the table's suite asks.

    Raises :class:`QualityError` where GX cannot answer; what was staged is then discarded.
    """
    suite = pipeline.quality.suite
    if suite is None:
        return staged
    more = unique_in_intervals(suite, staged.table.path, staged.files)
    if suite.that_run(Runs.GX):
        # Another session, for GX leaves views in it; another schema, for one to which a label may be added.
        session, schema = session_of(spark, pipeline), T.StructType(list(staged.schema.fields))
        rows = read_files(session, pipeline, staged.table, staged.files, schema)
        try:
            found = judged_in_gx(suite, rows.select(*[f"`{name}`" for name in staged.schema.names]))
        except QualityError:
            staged.discard()
            raise
        more += without_values(pipeline, found)
    return replace(staged, verdicts=_with(suite, staged.verdicts, more))


def judged_batch(
    pipeline: Pipeline, table: Table, files: tuple[DataFile, ...], verdicts: tuple[Verdict, ...]
) -> tuple[Verdict, ...]:
    """What was found of a live batch, and what its staged files say, where the table's suite asks."""
    suite = pipeline.quality.suite
    if suite is None or not suite.that_run(Runs.FILES):
        return verdicts
    live: dict[str, list[DataFile]] = {}
    if any(each.within is Within.INTERVAL for each in suite.expectations):
        for file in table.live_files().values():
            live.setdefault(file.label, []).append(file)
    return _with(suite, verdicts, unique_in_batch(suite, table.path, files, live))


def _with(suite: Suite, verdicts: tuple[Verdict, ...], more: tuple[Result, ...]) -> tuple[Verdict, ...]:
    found = {verdict.of: verdict for verdict in verdicts}
    found[OUTPUT] = with_results(suite, found.get(OUTPUT, Verdict(OUTPUT, ())), more)
    return tuple(found.values())


def check_rules(spark: SparkSession, pipeline: Pipeline, root: str) -> None:
    """Raise :class:`ConfigError`, with file and line, where a suite does not fit the rows that it is for.

    Reads no input; the transform is called, and what it makes is not run. Raises :class:`SourceError` where an input that is
    asked about is not there and nothing declares its columns, and :class:`PlanError` where the transform would have its rows
    counted twice.
    """
    session, quality = session_of(spark, pipeline), pipeline.quality
    for name, suite in quality.inputs.items():
        check(suite, _frame(session, pipeline, name).schema, session)
    if quality.suite is None and pipeline.decides is not None:
        return
    watched = Watched.of(pipeline)
    try:
        frames = {name: watched.history(name, _frame(session, pipeline, name)) for name in pipeline.inputs}
    except SourceError:
        if quality.suite is None:
            return  # nothing asks for what the transform makes; a run looks at it once the input is there
        raise
    frame = transform(session, pipeline, frames, root)
    watched.check_once(frame)
    if quality.suite is not None:
        check(quality.suite, frame.schema, session)
        try:
            # Of no rows: what is wrong with SQL or with a type shows all the same.
            judged_in_gx(quality.suite, session.createDataFrame([], frame.schema))
        except QualityError as error:
            raise ConfigError(error.message, next_step=error.next_step, **error.params) from None


def _frame(spark: SparkSession, pipeline: Pipeline, name: str) -> DataFrame:
    """No rows, with the columns of an input."""
    each = pipeline.inputs[name]
    schema = read_schema(spark, each.files, corrupt=False) if each.files is not None else None
    try:
        return spark.createDataFrame([], input_schema(spark, each) if schema is None else schema)
    except (AnalysisException, SourceError) as error:
        raise SourceError(
            f"{pipeline.name}: the columns of {name} cannot be told: {str(error).splitlines()[0]}",
            next_step=f"{each.source.mark} must be there, or declare a schema",
            input=name,
        ) from None
