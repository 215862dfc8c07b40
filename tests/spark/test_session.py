"""The contract of the session that users get."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.errors import EnvironmentProblem
from tidemill.execution import session as session_module
from tidemill.execution.session import build_session
from tidemill.testing.classes import archive

pytestmark = pytest.mark.spark


def test_time_is_utc_in_sql_and_in_the_jvm(spark: SparkSession):
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark._jvm.java.util.TimeZone.getDefault().getID() == "UTC"


def test_time_is_utc_in_python_workers(spark: SparkSession):
    def zone(_frames):
        import time

        import pandas as pd

        yield pd.DataFrame({"zone": [time.tzname[0]]})

    assert spark.range(1, numPartitions=1).mapInPandas(zone, "zone string").collect()[0].zone == "UTC"


def test_delta_is_written_and_read(spark: SparkSession, tmp_path: Path):
    table = str(tmp_path / "table")
    spark.range(10).withColumn("day", F.lit("2013-01-01").cast("date")).write.format("delta").partitionBy(
        "day"
    ).save(table)

    assert spark.read.format("delta").load(table).agg(F.sum("id")).collect()[0][0] == 45
    assert spark.sql(f"SELECT count(*) FROM delta.`{table}`").collect()[0][0] == 10


def test_delta_streams(spark: SparkSession, tmp_path: Path):
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    spark.range(10).write.format("delta").save(source)

    query = (
        spark.readStream.format("delta")
        .load(source)
        .writeStream.format("delta")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start(target)
    )
    query.awaitTermination()

    assert spark.read.format("delta").load(target).count() == 10


def test_state_is_kept_in_rocksdb(spark: SparkSession, tmp_path: Path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.json").write_text('{"k": 1}\n{"k": 1}\n{"k": 2}\n')
    query = (
        spark.readStream.schema("k INT")
        .json(str(tmp_path / "source"))
        .dropDuplicates(["k"])
        .writeStream.format("parquet")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start(str(tmp_path / "target"))
    )
    query.awaitTermination()

    assert spark.read.parquet(str(tmp_path / "target")).count() == 2
    assert list((tmp_path / "checkpoint" / "state").rglob("*.changelog"))


def test_timestamps_in_parquet_are_micros_with_statistics(spark: SparkSession, tmp_path: Path):
    frame = spark.sql("SELECT timestamp'2013-01-01 00:00:00' AS at")
    frame.coalesce(1).write.parquet(str(tmp_path / "files"))

    (file,) = (tmp_path / "files").glob("*.parquet")
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    assert column.physical_type == "INT64"
    assert column.statistics.has_min_max
    assert pq.read_schema(file).field("at").type.unit == "us"


def test_a_write_leaves_no_success_file_and_no_checksums_of_it(spark: SparkSession, tmp_path: Path):
    spark.range(1).write.parquet(str(tmp_path / "files"))

    assert not list((tmp_path / "files").glob("*_SUCCESS*"))


def test_local_files_are_written_without_a_fork_for_each(spark: SparkSession):
    path = spark._jvm.org.apache.hadoop.fs.Path("file:///")
    file_system = path.getFileSystem(spark._jsc.hadoopConfiguration())

    assert file_system.getClass().getSimpleName() == "BareLocalFileSystem"


def test_nothing_is_resolved_when_a_session_starts(spark: SparkSession):
    conf = spark.sparkContext.getConf()

    assert not conf.contains("spark.jars.packages")
    assert not conf.contains("spark.jars.ivy")
    assert "delta-spark_" in conf.get("spark.driver.extraClassPath", "")


def test_the_running_session_is_handed_out_unchanged(spark: SparkSession):
    again = build_session("another", settings={"spark.sql.shuffle.partitions": "99"})

    assert again is spark
    assert again.conf.get("spark.sql.shuffle.partitions") == "2"


def test_the_running_session_is_handed_out_in_other_threads_too(spark: SparkSession):
    found: list[SparkSession] = []
    thread = threading.Thread(
        target=lambda: found.append(build_session("x", settings={"spark.sql.shuffle.partitions": "99"}))
    )
    thread.start()
    thread.join()

    assert found[0].sparkContext is spark.sparkContext
    assert spark.conf.get("spark.sql.shuffle.partitions") == "2"


@pytest.mark.slow
def test_a_start_says_nothing_that_a_user_must_read(tmp_path: Path):
    # A process of its own: what the JVM prints at its start is the subject.
    program = (
        "from tidemill.execution.session import build_session\n"
        "spark = build_session('quiet', master='local[1]')\n"
        f"spark.range(3).write.format('delta').save({str(tmp_path / 'table')!r})\n"
        # What fails is raised; neither Spark nor PySpark is to report it besides, with its stack.
        "from pyspark.sql import functions as F\n"
        "for column in (F.udf('int')(lambda x: 1 // x)('id'), F.lit(1) / F.col('id'), F.expr('1 / id')):\n"
        "    try:\n"
        f"        spark.range(1).select(column).write.parquet({str(tmp_path / 'files')!r}, mode='overwrite')\n"
        "    except Exception: continue\n"
        "    raise SystemExit('nothing was raised')\n"
        "spark.stop()\n"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    said = [line for line in ran.stderr.splitlines() if "incubator modules" not in line]
    assert (ran.returncode, ran.stdout, said) == (0, "", [])


def test_a_jvm_submitted_without_the_jars_is_refused(spark: SparkSession, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session_module, "_DELTA", "io.delta.no.such.Class")

    with pytest.raises(EnvironmentProblem) as problem:
        session_module._submitted_settings("local[2]", {})

    assert "spark-submit.sh" in problem.value.next_step


@pytest.mark.skipif(sys.platform != "linux", reason="there is no archive elsewhere")
def test_the_classes_that_runs_load_come_from_an_archive(spark: SparkSession) -> None:
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()
    assert str(archive()) in Path(f"/proc/{pid}/maps").read_text()
