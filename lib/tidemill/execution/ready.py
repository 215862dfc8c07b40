"""What a live run makes ready before it reads anything: table, checkpoint and code are seen to fit, or the run does not begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from tidemill.execution import resume, seeds
from tidemill.execution.brokers import check_brokers
from tidemill.execution.decisions import Decisions
from tidemill.execution.fits import check_checkpoint, check_moved, check_watermarks
from tidemill.execution.folds import carrying_in, check_streamed
from tidemill.execution.outbox import Outbox
from tidemill.execution.quiet import quiet
from tidemill.execution.rules import refuse
from tidemill.execution.schemas import learn_listed
from tidemill.execution.snapshots import States
from tidemill.execution.stored import check_stored
from tidemill.execution.streamplan import Nature, nature
from tidemill.execution.survey import Survey
from tidemill.execution.taken import Watch
from tidemill.execution.undo import take_back
from tidemill.folds.carry import STATE, Carry, Carrying
from tidemill.ledger import bootstraps, index, schemas, unreadable
from tidemill.ledger.carried import Seed
from tidemill.ledger.coverage import Coverage
from tidemill.model import Pipeline
from tidemill.quality.watch import Watched
from tidemill.sinks import stage
from tidemill.sinks.tables import Table
from tidemill.sinks.target import of_log_commits, open_table
from tidemill.sources.live import live_frames
from tidemill.transforms.apply import transform
from tidemill.view import shape_of


@dataclass(frozen=True, slots=True)
class Setting:
    """What a live run needs to know besides the pipeline."""

    root: str
    run: str
    code: Callable[[], str]
    """Asked at each start: a driver by cron lives on, and loads what has changed."""
    watch: Watch
    survey: Survey | None = None
    """Where the run is a bootstrap's: its batches count what there is, and owe it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a run knows before it makes its frame: of its code, its table's ledger, and the schemas of what it reads.

    ``guard`` raises when the run has lost its lease.
    """

    spark: SparkSession
    pipeline: Pipeline
    setting: Setting
    guard: Callable[[], None]
    checkpoint: str
    watched: Watched
    schemas: Mapping[str, schemas.Writers]
    code: str
    coverage: Coverage
    seed: Seed | None
    unheard: seeds.Unheard


@dataclass(frozen=True, slots=True)
class Ready:
    """A run that may begin: what its query reads and computes (``frame``), and what each of its batches needs.

    ``given_up``: the files that are read no more, by input. It grows only where the run has ended: another begins then.
    """

    known: Known
    frame: DataFrame
    schema: T.StructType
    nature: Nature
    table: Table
    given_up: Mapping[str, Mapping[str, str]]
    states: States | None
    decisions: Decisions | None
    outbox: Outbox | None


def make_ready(
    spark: SparkSession, pipeline: Pipeline, setting: Setting, guard: Callable[[], None], checkpoint: str
) -> Ready:
    """Check that table, checkpoint and code fit; make the table where there is none, and take provisional swaps back.

    Raises :class:`StateError`, :class:`PlanError`, :class:`QualityError` or :class:`ConfigError` before anything is read.
    """
    known = _known(spark, pipeline, setting, guard, checkpoint)
    output, frame, decisions = _frames(known)
    refuse(pipeline, known.watched.of_columns(), "every batch")
    kind = nature(frame)
    _check(known, kind, output)
    given_up = unreadable.read(pipeline.table.state_path)
    table = open_table(output.drop(STATE), pipeline)
    stage.check_rules(table, pipeline)
    states = States(spark, pipeline, table, output) if STATE in output.columns else None
    if decisions:
        decisions.begin(table)
    take_back(spark, pipeline, table, known.coverage, guard)
    outbox = Outbox.open(spark, pipeline, table)
    if kind.fold is not None:
        quiet(spark)
    if pipeline.table.mode == "append":
        # Part of the stream, so that it is planned once and not in each batch.
        frame = table.place(frame, pipeline)
    return Ready(known, frame, output.schema, kind, table, given_up, states, decisions, outbox)


def _known(
    spark: SparkSession, pipeline: Pipeline, setting: Setting, guard: Callable[[], None], checkpoint: str
) -> Known:
    watched = Watched.of(pipeline)
    setting.watch.begin()
    learnt = learn_listed(spark, pipeline)
    code = schemas.sealed(setting.code(), pipeline.table.state_path)
    coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
    return Known(
        spark,
        pipeline,
        setting,
        guard,
        checkpoint,
        watched,
        learnt,
        code,
        coverage,
        seeds.pending(coverage, checkpoint),
        seeds.Unheard(pipeline, coverage),
    )


def _frames(known: Known) -> tuple[DataFrame, DataFrame, Decisions | None]:
    """The rows that the table's schema is of; all that a batch writes, watched; and what decides, where anything does."""
    spark, pipeline, root, survey = known.spark, known.pipeline, known.setting.root, known.setting.survey
    begin = resume.begin(pipeline, known.coverage)
    frames = live_frames(spark, survey.whole(pipeline) if survey else pipeline, known.watched, begin)
    if survey:
        frames = survey.inputs(pipeline, frames)
    decisions = Decisions.opened(spark, pipeline, known.coverage, root, known.code, known.guard)
    if decisions:
        output = transform(spark, pipeline, frames, root, decisions.seed)
        return *decisions.split(output), decisions
    planting = seeds.planting(pipeline, known.seed)
    how = Carrying(Carry(pipeline.grain.value, pipeline.interval_column), planting=planting)
    with carrying_in(pipeline, how):
        output = transform(spark, pipeline, frames, root)
    stage.check_columns(output.drop(STATE), pipeline)
    if survey:
        output = survey.output(pipeline, output)
    return output, known.watched.output(output), None


def _check(known: Known, kind: Nature, output: DataFrame) -> None:
    """Raise where pipeline, ledger, checkpoint and brokers do not fit each other, or another bootstrap is not done."""
    pipeline, coverage, survey = known.pipeline, known.coverage, known.setting.survey
    if kind.stateful:
        check_watermarks(pipeline)
    check_streamed(pipeline, kind.fold, output, bootstrapped=survey is not None)
    if STATE in output.columns:
        of_log_commits(pipeline.table.path, f"{pipeline.name} carries states")
    if survey is None:
        bootstraps.check_done(pipeline.table.state_path, pipeline.name)
    check_checkpoint(pipeline, coverage, known.checkpoint)
    if coverage.seed is not None:
        seeds.tidy(pipeline, known.seed)
    check_moved(pipeline, coverage, known.checkpoint)
    check_stored(pipeline, kind.fold, known.checkpoint, coverage, seeds.stored(pipeline, known.seed))
    check_brokers(known.spark, pipeline, coverage)
