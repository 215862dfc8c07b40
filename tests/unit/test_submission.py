"""What `spark-submit.sh` hands to spark-submit, and what everyone sees of it. The spark-submit here only notes what it got."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tidemill.errors import ConfigError
from tidemill.execution import jars
from tidemill.execution.settings import JAVA_OPTIONS
from tidemill.execution.submission import as_properties, said_by_command, shown

_ROOT = Path(__file__).resolve().parents[2]
_PYTHON = """#!/bin/sh
case "$*" in *spark_home*) echo {home}; exit ;; esac
exec {python} "$@"
"""
_SUBMIT = """#!/bin/sh
for word; do printf '%s\\n' "$word"; done >{home}/arguments
while [ "$1" != --properties-file ]; do shift; done
echo "$2" >{home}/file; stat -c %a "$2" >{home}/mode; cp "$2" {home}/properties
exit 7
"""


class Script:
    """`spark-submit.sh` in a project of its own, with a setting that is secret."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "spark"
        for part in (".venv/bin", "lib/tidemill", "jobs", "conf/spark", "spark/bin"):
            (folder / part).mkdir(parents=True)
        shutil.copy(_ROOT / "spark-submit.sh", folder)
        (folder / "Makefile").write_text("setup:\n")
        (folder / "jobs/stream.py").touch()
        for name in ("local", "cluster"):
            (folder / f"conf/spark/{name}.conf").write_text(
                "spark.hadoop.fs.s3a.secret.key hunter2\nspark.jars ours.jar\n"
            )
        self._executable(".venv/bin/python", _PYTHON)
        self._executable("spark/bin/spark-submit", _SUBMIT)

    def _executable(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text.format(home=self.home, python=sys.executable))
        (self.folder / name).chmod(0o755)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SPARK_")}
        environment |= {"TIDEMILL_JARS": str(jars.folder(_ROOT)), "PYTHONPATH": str(_ROOT / "lib")}
        return subprocess.run(
            ["./spark-submit.sh", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def arguments(self) -> list[str]:
        return self._noted("arguments").splitlines()

    @property
    def properties(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self._noted("properties").splitlines())

    def _noted(self, name: str) -> str:
        return (self.home / name).read_text().strip()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_settings_go_on_in_a_file_that_only_their_owner_reads(script: Script):
    done = script("--conf", "spark.my.password=hunter3", "jobs/stream.py", "events", "--conf", "its own")

    assert done.returncode == 7, done.stderr
    assert "hunter" not in " ".join(script.arguments)
    assert script.arguments[-4:] == ["jobs/stream.py", "events", "--conf", "its own"]
    assert script.properties["spark.hadoop.fs.s3a.secret.key"] == "hunter2"
    assert script.properties["spark.my.password"] == "hunter3"
    assert (script.home / "mode").read_text() == "600\n"
    assert not Path((script.home / "file").read_text().strip()).exists()


def test_what_the_command_says_is_joined_with_ours_in_whatever_words(script: Script):
    script("--jars", "a.jar", "--driver-class-path=b.jar", "--driver-java-options", "-Dc=d", "jobs/stream.py")

    assert dict(pairwise(script.arguments))["--master"] == "local[*]"
    assert script.properties["spark.jars"] == "ours.jar,a.jar"
    path = script.properties["spark.driver.extraClassPath"].split(":")
    assert path[-1] == "b.jar"
    assert any("delta-spark" in each for each in path)
    assert script.properties[JAVA_OPTIONS].startswith("-Dc=d -Duser.timezone=UTC ")

    (script.folder / "mine.conf").write_text("spark.a file\nspark.b file\nspark.ui.enabled true\n")
    words = ["--conf=spark.master=spark://h:7077", "-c", "spark.jars=a.jar", "--conf=spark.b=said"]
    words += ["--conf", "spark.executor.extraJavaOptions=-De=f", "--conf", "spark.submit.pyFiles=g.zip"]
    script(*words, "--properties-file", "mine.conf", "--num-executors", "2", "jobs/stream.py")

    options = dict(pairwise(script.arguments))
    assert (options["--master"], options["--num-executors"]) == ("spark://h:7077", "2")
    assert [Path(each).name for each in options["--py-files"].split(",")] == ["tidemill.zip", "g.zip"]
    shipped = script.properties["spark.jars"].split(",")
    assert shipped[-2:] == ["ours.jar", "a.jar"]
    assert any("delta-spark" in each for each in shipped)
    assert script.properties["spark.executor.extraJavaOptions"].startswith("-De=f -Duser.timezone=UTC ")
    assert [script.properties[f"spark.{key}"] for key in ("a", "b", "ui.enabled")] == ["file", "said", "true"]


def test_what_would_run_is_printed_without_secrets(script: Script):
    done = script("--dry-run", "--conf", "spark.a=-Dstore.password=hunter3 -Dx=y", "jobs/stream.py", "events")

    assert done.returncode == 0, done.stderr
    assert "hunter" not in done.stdout
    assert "spark.hadoop.fs.s3a.secret.key=" in done.stdout
    assert "jobs/stream.py events" in done.stdout
    assert not (script.home / "arguments").exists()


def test_what_is_no_setting_is_said_before_anything_runs(script: Script):
    for words in (["--conf", "spark.a"], ["--properties-file", "nowhere.conf"]):
        done = script(*words, "jobs/stream.py")
        assert (done.returncode, "tidemill: " in done.stderr) == (2, True)
    assert not (script.home / "arguments").exists()
    with pytest.raises(ConfigError, match=r"'spark\.a' is no setting"):
        said_by_command(["spark.a"], None, {})


def test_a_file_of_settings_says_any_text():
    said = {"spark.a": ' two\\three\n"four" = #5 ü', "spark.b c:": ""}

    assert as_properties(said) == 'spark.a=\\ two\\\\three\\n"four" = #5 ü\nspark.b\\ c\\:=\n'


@pytest.mark.parametrize(
    ("key", "value", "seen"),
    [
        ("spark.hadoop.fs.azure.account.key.lake", "s", "*********(redacted)"),
        ("spark.kafka.sasl.jaas.config", "s", "*********(redacted)"),
        ("spark.my.word", "s", "*********(redacted)"),
        ("spark.jars", "a-token-provider.jar,b.jar", "a-token-provider.jar,b.jar"),
        ("spark.a", 'x password="s t" y', "x password=*********(redacted) y"),
        ("spark.hadoop.fs.s3a.proxy", "http://me:s@h:1/p", "http://me:*********(redacted)@h:1/p"),
    ],
)
def test_secrets_are_known_by_their_names(key: str, value: str, seen: str):
    assert shown({key: value, "spark.redaction.regex": "my[.]word"})[key] == seen


def test_a_redaction_that_python_does_not_read_hides_all():
    found = shown({"spark.redaction.regex": "key|(?i)other", "spark.a": "1"})
    assert set(found.values()) == {"*********(redacted)"}


def test_a_properties_file_is_read_as_java_does(tmp_path: Path):
    file = tmp_path / "x.conf"
    file.write_text(
        "spark.a=http\\://minio\\:9000\r\n! none\n\nspark.b : a,\\\n # no comment,\\\n  c\nspark.c\\ d\t\\u00e9\\\\n\nspark.e"
    )
    assert said_by_command([], file, {}) == {
        "spark.a": "http://minio:9000",
        "spark.b": "a,# no comment,c",
        "spark.c d": "é\\n",
        "spark.e": "",
    }
