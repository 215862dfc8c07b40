"""Great Expectations is kept quiet, and what Spark says otherwise is not broken by it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging
from pyspark.logger import PySparkLogger
from tidemill.quality.in_gx import quiet
with quiet():
    assert logging.getLogger("SQLQueryContextLogger").level == logging.CRITICAL
for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
    assert isinstance(logging.getLogger(name), PySparkLogger), name
    assert logging.getLogger(name).level != logging.CRITICAL
"""


def test_sparks_loggers_stay_sparks():
    # In a process of its own: a logger is of the class of whoever asks for it first.
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
