"""The Spark session that tidemill runs in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from tidemill.errors import EnvironmentProblem
from tidemill.execution import jars
from tidemill.execution.java import usable_java
from tidemill.execution.settings import COMPILE_ALL, DEFAULTS, JAVA_OPTIONS, ZONE, given, resolve
from tidemill.model import Pipeline

_DELTA = "io.delta.sql.DeltaSparkSessionExtension"
_LONGEST, _ANY_LENGTH = "spark.sql.codegen.hugeMethodLimit", "65535"
_NEXT = "submit the job with ./spark-submit.sh, which puts Delta's jars on the command line"


def build_session(
    app_name: str,
    *,
    master: str | None = None,
    settings: Mapping[str, str] | None = None,
    project: Path | None = None,
) -> SparkSession:
    """The session of this process: the running one, unchanged, or a new one set as :mod:`.settings` says.

    - Strongest first: ``settings``, then what spark-submit, ``PYSPARK_SUBMIT_ARGS``, ``conf/spark/*.conf`` and
      ``spark-defaults.conf`` say, then tidemill's defaults.
    - ``master`` defaults to what those say, else ``local[*]``.
    - ``conf/spark`` and ``.jars`` are those of ``project``, else of the project around the working directory.
    - Jars come from :func:`tidemill.execution.jars.folder`, fetched once if they are missing; nothing is resolved
      when a session starts.
    - Timestamps are UTC in Spark and in its workers. The driver's Python is left alone: rows collected there carry
      naive datetimes of the machine's own zone, so collect microseconds or Arrow instead.

    Raises:
        EnvironmentProblem: Java or the jars are missing, or spark-submit started the JVM without Delta's jars.

    Example:
        >>> spark = build_session("example", master="local[2]")  # doctest: +SKIP
        >>> spark.conf.get("spark.sql.session.timeZone")  # doctest: +SKIP
        'UTC'
    """
    running = _running()
    if running is not None:
        return running
    _quiet()
    # Spark's workers must be the interpreter that the driver is, not the first python3 on PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if _submitted():
        found = _submitted_settings(master, settings or {}, project)
    else:
        usable_java()
        said = given(master, project) | dict(settings or {})
        class_path = jars.fetch(jars.folder(project))
        found = resolve(master or said.get("spark.master") or "local[*]", said, class_path)
    return SparkSession.builder.appName(app_name).config(map=dict(found)).getOrCreate()


def session_of(spark: SparkSession, pipeline: Pipeline) -> SparkSession:
    """A session of its own for one run of a pipeline, with the pipeline's settings.

    In UTC whatever the machine's or the submitter's zone: times without a zone, and the cuts between intervals, must
    not depend on where a run happens to be.
    """
    session = spark.newSession()
    compiled = COMPILE_ALL in spark.sparkContext.getConf().get(JAVA_OPTIONS, "")
    if not compiled and session.conf.get(_LONGEST) == _ANY_LENGTH:
        # A session of others': methods that Java would not compile are to be cut into smaller ones, unless they said else.
        session.conf.set(_LONGEST, "8000")
    for key, value in pipeline.spark.items():
        session.conf.set(key, value)
    session.conf.set(ZONE, DEFAULTS[ZONE])
    return session


def _running() -> SparkSession | None:
    # The first session of the process, not the active one: a pipeline that ran in this thread leaves its own
    # session, with its own settings, active behind it.
    first = SparkSession._instantiatedSession  # noqa: SLF001  pyspark has no public way to ask
    if first is not None and SparkContext._active_spark_context is first.sparkContext:  # noqa: SLF001  nor here
        return first
    # Made on the JVM's side: asked without settings, the builder hands it out as it is.
    if SparkContext._active_spark_context is not None:  # noqa: SLF001  nor here
        return SparkSession.builder.getOrCreate()
    return None


def _quiet() -> None:
    # Each gives a record of some kilobytes for an error that is raised, and says so, anyway. As in log4j2.properties.
    if os.environ.get("TIDEMILL_SPARK_ERRORS", "off") == "off":
        for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
            PySparkLogger.getLogger(name).disabled = True


def _submitted() -> bool:
    # Set by spark-submit for the Python it starts: the JVM is up, and its class path is what it is.
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _submitted_settings(
    master: str | None, settings: Mapping[str, str], project: Path | None = None
) -> dict[str, str]:
    SparkContext._ensure_initialized()  # noqa: SLF001  the submitted settings are in the JVM, nowhere else
    submitted = dict(SparkConf().getAll())
    said = given(master or submitted.get("spark.master"), project) | submitted | dict(settings)
    loader = SparkContext._jvm.java.lang.Thread.currentThread().getContextClassLoader()  # type: ignore[union-attr]  # noqa: SLF001
    if loader.getResource(_DELTA.replace(".", "/") + ".class") is None:
        raise EnvironmentProblem("spark-submit started without Delta's jars", next_step=_NEXT)
    found = resolve(master or said.get("spark.master") or "local[*]", said, ())
    # Too late for these: the JVM has started with what spark-submit was told.
    return {key: value for key, value in found.items() if key not in _FIXED_AT_START or key in submitted}


_FIXED_AT_START = frozenset(
    {
        "spark.driver.extraClassPath",
        "spark.driver.extraJavaOptions",
        "spark.driver.memory",
        "spark.jars",
    }
)
