from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidemill.execution.settings import (
    JAVA_OPTIONS,
    given,
    is_local,
    parse_properties,
    parse_submit_args,
    resolve,
)

JARS = [Path("a.jar"), Path("b.jar")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PYSPARK_SUBMIT_ARGS", "SPARK_CONF_DIR", "SPARK_HOME", "TIDEMILL_DRIVER_MEMORY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "conf" / "spark").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_was_said_wins_over_the_default(project: Path):
    (project / "conf/spark/local.conf").write_text("spark.ui.enabled true\n")

    assert resolve("local[2]", given("local[2]"), JARS)["spark.ui.enabled"] == "true"
    assert resolve("yarn", given("yarn"), JARS)["spark.ui.enabled"] == "false"


def test_the_command_wins_over_the_project_and_the_project_over_sparks_defaults(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SPARK_CONF_DIR", str(project))
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--conf spark.c=command pyspark-shell")
    (project / "spark-defaults.conf").write_text("spark.a defaults\nspark.b defaults\nspark.c defaults\n")
    (project / "conf/spark/local.conf").write_text("spark.b project\nspark.c project\n")

    assert given(None) == {"spark.a": "defaults", "spark.b": "project", "spark.c": "command"}


def test_java_options_are_joined_with_ours(project: Path):
    found = resolve("local[2]", {JAVA_OPTIONS: "-XX:+UseZGC"}, JARS)

    assert found[JAVA_OPTIONS].startswith("-XX:+UseZGC -Duser.timezone=UTC ")


@pytest.mark.parametrize("key", [JAVA_OPTIONS, "spark.executor.extraJavaOptions"])
def test_java_compiles_long_methods_unless_told_otherwise(project: Path, key: str):
    assert "-XX:-DontCompileHugeMethods" in resolve("local[2]", {}, JARS)[key].split()
    other = resolve("local[2]", {key: "-XX:+DontCompileHugeMethods"}, JARS)[key].split()
    assert [each for each in other if "HugeMethods" in each] == ["-XX:+DontCompileHugeMethods"]


def test_a_zone_that_was_said_is_not_said_again(project: Path):
    found = resolve("local[2]", {JAVA_OPTIONS: "-Duser.timezone=Asia/Tokyo"}, JARS)

    assert "UTC" not in found[JAVA_OPTIONS]


def test_local_jars_are_on_the_class_path_and_join_what_was_said(project: Path):
    found = resolve("local[2]", {"spark.driver.extraClassPath": "mine.jar"}, JARS)

    assert found["spark.driver.extraClassPath"].split(os.pathsep) == ["a.jar", "b.jar", "mine.jar"]


def test_a_cluster_gets_jars_shipped_and_no_local_file_system(project: Path):
    found = resolve("spark://host:7077", {"spark.jars": "kafka.jar"}, JARS)

    assert found["spark.jars"] == "a.jar,b.jar,kafka.jar"
    assert "spark.hadoop.fs.file.impl" not in found
    assert "spark.driver.memory" not in found


def test_partitions_follow_the_cores(project: Path):
    assert resolve("local[6]", {}, JARS)["spark.sql.shuffle.partitions"] == "6"
    assert resolve("local[1]", {}, JARS)["spark.sql.shuffle.partitions"] == "2"


@pytest.mark.parametrize(
    ("master", "local"),
    [
        ("local", True),
        ("local[*]", True),
        ("local[2,4]", True),
        ("local-cluster[2,1,1024]", False),
        ("yarn", False),
    ],
)
def test_local_means_one_jvm(master: str, local: bool):  # noqa: FBT001  a row of the table above
    assert is_local(master) is local


def test_properties_are_read_as_spark_reads_them():
    text = "# comment\n\nspark.a  1\nspark.b=-Dx=y\nspark.c : z\n! also a comment\n"

    assert parse_properties(text) == {"spark.a": "1", "spark.b": "-Dx=y", "spark.c": "z"}


def test_submit_arguments_keep_quoted_values():
    said = parse_submit_args("--master local[1] --driver-memory 2g -c 'spark.a=x y' pyspark-shell")

    assert said == {"spark.master": "local[1]", "spark.driver.memory": "2g", "spark.a": "x y"}
    said = parse_submit_args("--master=local[1] --conf=spark.a=x=y --driver-memory=2g pyspark-shell")
    assert said == {"spark.master": "local[1]", "spark.driver.memory": "2g", "spark.a": "x=y"}
