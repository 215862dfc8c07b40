"""Runs a pipeline's steps over its input frames; the same call for streams and for batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from tidemill.config.loading import ONE_AT_A_TIME, load
from tidemill.deciding import decide
from tidemill.deciding.seeds import NO_SEED, Seed
from tidemill.errors import ConfigError, TidemillError, TransformError
from tidemill.eventsourcing import Domain
from tidemill.model import SINGLE_INPUT, Pipeline, Step


def transform(
    spark: SparkSession, pipeline: Pipeline, frames: Mapping[str, DataFrame], root: str, seed: Seed = NO_SEED
) -> DataFrame:
    """The output frame of a pipeline over ``frames`` (by input name). ``seed``: what a step that decides goes on from.

    Raises :class:`ConfigError` when a step cannot be found, :class:`TransformError` when it raises or does
    not return a frame.
    """
    current: Mapping[str, DataFrame] = frames
    # Modules are loaded anew and views replaced while frames are built; building takes milliseconds.
    with ONE_AT_A_TIME:
        for number, step in enumerate(pipeline.transform, start=1):
            current = {SINGLE_INPUT: _run(spark, pipeline, step, number, current, root, seed)}
    return next(iter(current.values()))


def _run(
    spark: SparkSession,
    pipeline: Pipeline,
    step: Step,
    number: int,
    frames: Mapping[str, DataFrame],
    root: str,
    seed: Seed,
) -> DataFrame:
    where = f"{pipeline.name}: step {number} ({step.label})"
    try:
        if step.sql is not None:
            return _sql(spark, step.sql, frames)
        if step.decide is not None:
            return decide(only(frames), load_domain(step.decide, root), seed)
        function = step.call or load_function(str(step.function), root)
        result = function(*frames.values()) if len(frames) == 1 else function(**frames)
    except TidemillError as error:
        # What a step is built of, a fold say, does not know whose it is; of several pipelines only one may be wrong.
        if not error.message.startswith(f"{pipeline.name}: "):
            error.message = f"{pipeline.name}: {error.message}"
        raise
    except PySparkException as error:
        raise TransformError(
            f"{where}: {str(error).splitlines()[0]}", next_step="correct the step", step=step.label
        ) from error
    except Exception as error:
        raise TransformError(
            f"{where} raised {type(error).__name__}: {error}", next_step="correct the step", step=step.label
        ) from error
    if not isinstance(result, DataFrame):
        raise TransformError(
            f"{where} returned {type(result).__name__}, not a DataFrame",
            next_step="return the frame it makes",
            step=step.label,
        )
    return result


def only(frames: Mapping[str, DataFrame]) -> DataFrame:
    """The one frame of these: of several, commands are put together by their columns' names."""
    first, *others = frames.values()
    for other in others:
        first = first.unionByName(other, allowMissingColumns=True)
    return first


def _sql(spark: SparkSession, query: str, frames: Mapping[str, DataFrame]) -> DataFrame:
    # The session is the pipeline's own, so that names do not meet those of other pipelines.
    for name, frame in frames.items():
        frame.createOrReplaceTempView(name)
    return spark.sql(query)


def load_function(target: str, root: str) -> Callable[..., Any]:
    """The function that ``module:function`` names, as the project's files have it now; see :func:`tidemill.config.loading.load`.

    Raises :class:`ConfigError` naming what is missing.
    """
    function = _load(target, root)
    if not callable(function):
        module, _, name = target.partition(":")
        raise ConfigError(f"{module} has no function {name!r}", next_step="correct transform:")
    return function  # type: ignore[no-any-return]  # callable() saw to it


def load_domain(target: str, root: str) -> Domain:
    """The domain that ``module:NAME`` names, as the project's files have it now; see :func:`tidemill.config.loading.load`.

    Raises :class:`ConfigError` naming what is missing.
    """
    domain = _load(target, root)
    if not isinstance(domain, Domain):
        module, _, name = target.partition(":")
        raise ConfigError(
            f"{name!r} of {module} is no tidemill.eventsourcing.Domain", next_step="name one, as module:NAME"
        )
    return domain


def _load(target: str, root: str) -> Any:
    try:
        return load(target, root)
    except ModuleNotFoundError as error:
        module = target.partition(":")[0]
        if error.name and not module.startswith(error.name):
            raise
        raise ConfigError(
            f"the transform {target!r} names a module that is not there",
            next_step=f"write {module.replace('.', '/')}.py under {root}",
        ) from None
