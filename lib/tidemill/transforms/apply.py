"""Runs a pipeline's steps over its input frames; the same call for streams and for batches."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from tidemill.errors import ConfigError, TidemillError, TransformError
from tidemill.model import SINGLE_INPUT, Pipeline, Step


def transform(
    spark: SparkSession, pipeline: Pipeline, frames: Mapping[str, DataFrame], root: str
) -> DataFrame:
    """The output frame of a pipeline over ``frames`` (by input name).

    Raises :class:`ConfigError` when a step cannot be found, :class:`TransformError` when it raises or does
    not return a frame.
    """
    current: Mapping[str, DataFrame] = frames
    for number, step in enumerate(pipeline.transform, start=1):
        current = {SINGLE_INPUT: _run(spark, pipeline, step, number, current, root)}
    return next(iter(current.values()))


def _run(
    spark: SparkSession,
    pipeline: Pipeline,
    step: Step,
    number: int,
    frames: Mapping[str, DataFrame],
    root: str,
) -> DataFrame:
    where = f"{pipeline.name}: step {number} ({step.label})"
    try:
        if step.sql is not None:
            return _sql(spark, step.sql, frames)
        function = step.call or load_function(str(step.function), root)
        result = function(*frames.values()) if len(frames) == 1 else function(**frames)
    except TidemillError:
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


def _sql(spark: SparkSession, query: str, frames: Mapping[str, DataFrame]) -> DataFrame:
    # The session is the pipeline's own, so that names do not meet those of other pipelines.
    for name, frame in frames.items():
        frame.createOrReplaceTempView(name)
    return spark.sql(query)


def load_function(target: str, root: str) -> Callable[..., Any]:
    """The function that ``module:function`` names, the project's folder first on the path.

    Raises :class:`ConfigError` naming what is missing.
    """
    module, _, name = target.partition(":")
    if root not in sys.path:
        sys.path.insert(0, root)
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise
        raise ConfigError(
            f"the transform {target!r} names a module that is not there",
            next_step=f"write {module.replace('.', '/')}.py under {root}",
        ) from None
    function = getattr(loaded, name, None)
    if not callable(function):
        raise ConfigError(f"{module} has no function {name!r}", next_step="correct transform:")
    return function  # type: ignore[no-any-return]  # callable() saw to it
