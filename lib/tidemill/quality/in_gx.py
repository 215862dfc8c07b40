"""Great Expectations itself: whether it takes an expectation. Loading it takes seconds; only verbs that need it do."""

from __future__ import annotations

import logging
import os
import warnings

from tidemill.errors import ConfigError
from tidemill.model import Expectation, Suite
from tidemill.model.expectations import NOT_IN_GX


def check_in_gx(suite: Suite) -> None:
    """Raise :class:`ConfigError`, with file and line, for the first expectation that GX does not take.

    GX leaves such an expectation out when it loads a suite, with no more than a line in its log.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    from great_expectations.core import ExpectationSuite

    logging.getLogger("great_expectations.core.expectation_suite").setLevel(logging.CRITICAL)
    for each in suite.expectations:
        if each.type in NOT_IN_GX:
            continue
        body = {"type": each.type, "kwargs": each.kwargs, "severity": each.severity}
        try:
            with warnings.catch_warnings():
                # Conditions written as texts are old, and still read.
                warnings.simplefilter("ignore", DeprecationWarning)
                taken = len(ExpectationSuite(name=suite.name, expectations=[body]).expectations)
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
