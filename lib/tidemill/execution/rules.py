"""A pipeline's suites against its rows: what its inputs bring, and what its transform makes of them."""

from __future__ import annotations

from pyspark.sql import SparkSession

from tidemill.execution.session import session_of
from tidemill.model import Pipeline
from tidemill.quality.check import check
from tidemill.sources.live import input_schema, live_frames
from tidemill.transforms.apply import transform


def check_rules(spark: SparkSession, pipeline: Pipeline, root: str) -> None:
    """Raise :class:`ConfigError`, with file and line, where a suite does not fit the rows that it is for.

    Reads no input; the transform is called, and what it makes is not run.
    """
    session = session_of(spark, pipeline)
    for name, suite in pipeline.quality.inputs.items():
        check(suite, input_schema(session, pipeline.inputs[name]), session)
    if pipeline.quality.suite is not None:
        frame = transform(session, pipeline, live_frames(session, pipeline), root)
        check(pipeline.quality.suite, frame.schema, session)
