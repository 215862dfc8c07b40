"""Tells Spark how the stores are reached that a project's pipelines name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession

from tidemill.config import Project
from tidemill.model import Pipeline
from tidemill.storage import on_a_store
from tidemill.storage.clients import hadoop_settings


def reach(spark: SparkSession, project: Project) -> None:
    """Give Hadoop the settings of every bucket that the project's pipelines name; nothing where they name none.

    They go into Hadoop's configuration, from where Spark's tasks have them too, and not into Spark's, which is shown. What the
    session was told by name of a bucket stays.
    """
    buckets = {
        path.split("/")[2] for each in project.pipelines.values() for path in _paths(each) if on_a_store(path)
    }
    if not buckets:
        return
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001  no public way
    told = dict(spark.sparkContext.getConf().getAll())
    for bucket in sorted(buckets):
        for key, value in hadoop_settings(bucket).items():
            if f"spark.hadoop.{key}" not in told:
                hadoop.set(key, value)


def _paths(pipeline: Pipeline) -> Iterator[str]:
    yield pipeline.table.path
    yield pipeline.table.state_path
    yield from (each.source.path for each in pipeline.inputs.values() if each.files or each.delta)  # type: ignore[union-attr]
