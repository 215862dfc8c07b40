"""Columns without the place in the code where they are made.

PySpark notes for each operator of a column the line of the user's code, so that an error at run time can name it. Of columns
that no user wrote that says nothing, and it takes three of four round trips to the JVM: of twenty rules, a tenth of a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import utils

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def without_call_sites() -> Iterator[None]:
    """Make columns, or call functions that do, without noting where; afterwards it is as it was.

    PySpark keeps one switch a process, read once from ``spark.python.sql.dataFrameDebugging.enabled``: what other threads make
    meanwhile has no place either. Threads that come here wait for each other.
    """
    with _ONE_AT_A_TIME:
        before = utils._enable_debugging_cache  # noqa: SLF001  there is no other way to turn it off for a while
        utils._enable_debugging_cache = False  # type: ignore[assignment]  # noqa: SLF001
        try:
            yield
        finally:
            utils._enable_debugging_cache = before  # noqa: SLF001
