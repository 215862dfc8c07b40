"""The Python of README and guides runs as it stands, each document in an empty folder of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from tidemill.config import parse_pipeline
from tidemill.config.suites import suite_of
from tidemill.config.text import lined

_ROOT = Path(__file__).resolve().parents[2]
_DOCUMENTS = [_ROOT / "README.md", *sorted((_ROOT / "docs/guides").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(document: Path, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall(document.read_text()) if kind == language]


@pytest.mark.spark
@pytest.mark.parametrize("document", [d for d in _DOCUMENTS if _blocks(d, "python")], ids=lambda d: d.stem)
def test_python_runs(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    assert spark is not None  # the engine takes the session that is there
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": f"guide_{document.stem}"}
    for block in _blocks(document, "python"):
        exec(compile(block, document.name, "exec"), names)  # noqa: S102  # the document's own code is the test


@pytest.mark.parametrize("document", [d for d in _DOCUMENTS if _blocks(d, "yaml")], ids=lambda d: d.stem)
def test_pipelines_and_suites_in_yaml_are_valid(document: Path) -> None:
    for block in _blocks(document, "yaml"):
        value = yaml.safe_load(block)
        if "expectations" in value:
            suite_of(lined(document, block))
        else:
            parse_pipeline(value, _ROOT)


def test_links_lead_somewhere() -> None:
    for document in [*_DOCUMENTS, _ROOT / "docs/architecture.md", _ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


_SUBMITTED = re.compile(r"^ +(\./spark-submit\.sh (?:.*\\\n)*.*)$", re.MULTILINE)


def test_submitted_lines_are_commands_of_spark_submit() -> None:
    lines = [each.replace("\\\n", " ") for d in _DOCUMENTS for each in _SUBMITTED.findall(d.read_text())]
    assert len(lines) > 5
    for line in lines:
        _, *words = shlex.split(line)
        said = [word for word in words if word != "--dry-run"]
        printed = subprocess.run(
            [_ROOT / "spark-submit.sh", "--dry-run", *said],
            capture_output=True,
            text=True,
            check=True,
            cwd=_ROOT,
        ).stdout
        command = shlex.split(printed.replace("\\\n", " "))
        job = next(word for word in said if word.startswith("jobs/"))
        assert command[command.index(job) :] == said[said.index(job) :], line
        master = said[said.index("--master") + 1] if "--master" in said else "local[*]"
        pairs = list(pairwise(command[: command.index(job)]))
        options = dict(pairs)
        assert options["--master"] == master, line
        if master != "local[*]":
            assert options["--py-files"].endswith("tidemill.zip"), line
            assert any(word.startswith("spark.jars=") and "delta-spark" in word for word in command), line
            # What is said is said once: it wins over the project's own.
            own = said[2 : said.index(job)]
            for option, value in zip(own[::2], own[1::2], strict=True):
                key = value.partition("=")[0] if option == "--conf" else value
                assert [each for each in pairs if each[0] == option and each[1].split("=")[0] == key] == [
                    (option, value)
                ], line
