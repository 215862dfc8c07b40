"""Great Expectations itself: whether it takes an expectation. Loading it takes seconds; only verbs that need it do."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyspark.logger import PySparkLogger

from tidemill.errors import ConfigError
from tidemill.model import Expectation, Suite
from tidemill.model.expectations import NOT_IN_GX

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuite

# Those of Spark print a page for each expression that does not fit; the error that is raised says it in a line.
_LOUD = ("DataFrameQueryContextLogger", "SQLQueryContextLogger")


@contextmanager
def quiet() -> Iterator[None]:
    """While GX is at work: it reports its use to nobody, and writes nothing beside what it is asked."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # Spark's must be of its own class, whoever asks for them first: it passes them more than a plain one takes.
    loggers = [logging.getLogger("great_expectations"), *map(PySparkLogger.getLogger, _LOUD)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # Conditions written as texts are old, and still read.
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def suite_in_gx(name: str, expectations: Sequence[Expectation]) -> ExpectationSuite:
    """A suite of GX's own with these expectations, each numbered in its ``meta``.

    GX leaves one that it does not know out of the suite, and raises for parameters that it does not take.
    """
    from great_expectations.core import ExpectationSuite

    bodies = [
        {"type": each.type, "kwargs": each.kwargs, "severity": each.severity, "meta": {"number": number}}
        for number, each in enumerate(expectations)
    ]
    return ExpectationSuite(name=name, expectations=bodies)


def check_in_gx(suite: Suite) -> None:
    """Raise :class:`ConfigError`, with file and line, for the first expectation that GX does not take.

    GX leaves such an expectation out when it loads a suite, with no more than a line in its log.
    """
    with quiet():
        for each in suite.expectations:
            if each.type in NOT_IN_GX:
                continue
            try:
                taken = len(suite_in_gx(suite.name, [each]).expectations)
            except (ValueError, TypeError) as error:
                raise _refused(each, "; ".join(str(error).splitlines()[1:]) or str(error)) from None
            if not taken:
                raise _refused(each, "it is left out")


def _refused(each: Expectation, why: str) -> ConfigError:
    file, _, line = each.where.rpartition(":")
    return ConfigError(
        f"{each.where}: {each.id}: Great Expectations does not take it: {' '.join(why.split())}",
        next_step="see the gallery of Great Expectations",
        file=file,
        line=line,
        expectation=each.id,
    )
