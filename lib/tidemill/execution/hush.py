"""Keeps Spark from reporting, with pages of stack, that a query was told to end: no failure, and the run says why itself."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession

_LOGGER = "org.apache.spark.sql.execution.streaming.runtime.MicroBatchExecution"


class Hush:
    """The voice of Spark's query loop, which all queries of a JVM share; taken for a moment and given back."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark._jvm  # noqa: SLF001  Spark has no Python API for one logger
        self._before: Any = None

    def on(self) -> None:
        """Let it say nothing."""
        log4j = self._jvm.org.apache.logging.log4j
        self._before = self._before or log4j.LogManager.getLogger(_LOGGER).getLevel()
        log4j.core.config.Configurator.setLevel(_LOGGER, log4j.Level.OFF)

    def off(self) -> None:
        """Let it say what it said before."""
        if self._before is not None:
            self._jvm.org.apache.logging.log4j.core.config.Configurator.setLevel(_LOGGER, self._before)
            self._before = None
