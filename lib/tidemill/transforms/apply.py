"""Runs a pipeline's steps over its input frames; the same call for streams and for batches."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from tidemill.deciding import decide
from tidemill.deciding.seeds import NO_SEED, Seed
from tidemill.errors import ConfigError, TidemillError, TransformError
from tidemill.eventsourcing import Domain
from tidemill.model import SINGLE_INPUT, Pipeline, Step

_one_at_a_time = threading.Lock()
"""Modules are loaded anew and views replaced while frames are built; building takes milliseconds."""


def transform(
    spark: SparkSession, pipeline: Pipeline, frames: Mapping[str, DataFrame], root: str, seed: Seed = NO_SEED
) -> DataFrame:
    """The output frame of a pipeline over ``frames`` (by input name). ``seed``: what a step that decides goes on from.

    Raises :class:`ConfigError` when a step cannot be found, :class:`TransformError` when it raises or does
    not return a frame.
    """
    current: Mapping[str, DataFrame] = frames
    with _one_at_a_time:
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
    """The function that ``module:function`` names, as the project's files have it now; see :func:`_load`.

    Raises :class:`ConfigError` naming what is missing.
    """
    function = _load(target, root)
    if not callable(function):
        module, _, name = target.partition(":")
        raise ConfigError(f"{module} has no function {name!r}", next_step="correct transform:")
    return function  # type: ignore[no-any-return]  # callable() saw to it


def load_domain(target: str, root: str) -> Domain:
    """The domain that ``module:NAME`` names, as the project's files have it now; see :func:`_load`.

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
    """What ``module:name`` names, None where the module has no such name.

    A module of the project that changed on disk, or that another project's module of the same name stands in
    for, is loaded anew: what runs is what the fingerprint speaks of, in a long-lived process too.
    Raises :class:`ConfigError` naming what is missing.
    """
    module, _, name = target.partition(":")
    if sys.path[:1] != [root]:
        sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]
    _forget_changed(module.partition(".")[0], root)
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise
        raise ConfigError(
            f"the transform {target!r} names a module that is not there",
            next_step=f"write {module.replace('.', '/')}.py under {root}",
        ) from None
    finally:
        _remember(root)
    return getattr(loaded, name, None)


_seen: dict[str, tuple[str, int, int]] = {}
"""What each of the project's loaded modules was when it was loaded: its file, its time, its size."""


def _forget_changed(package: str, root: str) -> None:
    ours = dict(_project_modules(root))
    foreign = {
        name
        for name in sys.modules
        if (name == package or name.startswith(f"{package}."))
        and name not in ours
        and _project_file(package, root)
    }
    if foreign or any(_seen.get(name) != stamp for name, stamp in ours.items()):
        # All of them: they import each other, and an old one must not hold on to an old other.
        for name in {*ours, *foreign}:
            sys.modules.pop(name, None)
        for file, _, _ in ours.values():
            # Python takes compiled code for current when second and size agree; an edit can be quicker.
            Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)
        importlib.invalidate_caches()


def _remember(root: str) -> None:
    _seen.update(_project_modules(root))


def _project_modules(root: str) -> Iterator[tuple[str, tuple[str, int, int]]]:
    prefix = root.rstrip("/") + "/"
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # A package that is installed below the root (.venv, lib) is not a module of the project.
        if not file or not file.startswith(prefix) or name == "__main__" or not _project_file(name, root):
            continue
        try:
            status = Path(file).stat()
        except FileNotFoundError:
            yield name, (file, -1, -1)
        else:
            yield name, (file, status.st_mtime_ns, status.st_size)


def _project_file(name: str, root: str) -> bool:
    local = Path(root, *name.split("."))
    return local.with_suffix(".py").is_file() or (local / "__init__.py").is_file() or local.is_dir()
