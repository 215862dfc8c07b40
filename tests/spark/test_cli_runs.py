"""The command line end to end: what init writes is run, repaired, taken back and verified."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner, Result

from tidemill.cli.app import app
from tidemill.cli.shell import Hands
from tidemill.engine import Engine

pytestmark = pytest.mark.spark

DAYS = ["2024-03-01", "2024-03-02", "2024-03-03"]


class Terminal:
    """Types verbs into one project, on the session that all Spark tests share."""

    def __init__(self, project: Path, spark: SparkSession) -> None:
        self.project = project
        self._spark = spark

    def _engine(self, project: Path | None, *, env: str | None, say: Callable[[str], None]) -> Engine:
        return Engine(project, env=env, say=say, spark=self._spark)

    def type(self, *words: str) -> Result:
        return CliRunner().invoke(
            app, [*words, "--project", str(self.project)], obj=Hands(engine=self._engine)
        )

    def ask(self, *words: str, code: int = 0) -> Any:
        answered = self.type(*words, "--json")
        assert answered.exit_code == code, answered.output
        return json.loads(answered.stdout)

    def states(self) -> dict[str, str]:
        (found,) = self.ask("status", "clicks")["pipelines"]
        return {each["interval"]: each["state"] for each in found["intervals"]}

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.project / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        # Python would keep the code it has loaded; a new process would not.
        forget_jobs(None)


def forget_jobs(monkeypatch: pytest.MonkeyPatch | None) -> None:
    for name in [name for name in sys.modules if name == "jobs" or name.startswith("jobs.")]:
        if monkeypatch is None:
            del sys.modules[name]
        else:
            monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def terminal(tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # This repository has a package named jobs too, and other tests load it.
    forget_jobs(monkeypatch)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "demo"
    assert CliRunner().invoke(app, ["init", str(folder)]).exit_code == 0
    monkeypatch.syspath_prepend(str(folder))
    return Terminal(folder, spark)


def rows(spark: SparkSession, terminal: Terminal) -> int:
    return spark.read.format("delta").load(str(terminal.project / "data/tables/clicks")).count()


def test_a_project_from_init_to_verify(terminal: Terminal, spark: SparkSession, tmp_path: Path):
    # The live stream reads what init brought.
    ran = terminal.type("run", "--available-now")
    assert (ran.exit_code, ran.stdout) == (0, "clicks  ok  1 batch published\n")
    assert terminal.states() == dict.fromkeys(DAYS, "clean")
    assert rows(spark, terminal) == 11
    assert "nothing to do" in terminal.type("plan", "clicks").stdout

    # Status needs no Spark for it.
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit, sys\n"
        "atexit.register(lambda: print(*(n for n in ('pyspark', 'deltalake') if n in sys.modules)))\n"
        "from tidemill.cli.app import main\n"
        f"main(['status', '--project', {str(terminal.project)!r}])\n"
    )
    status = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert status.stdout.splitlines()[0] == "clicks  3 clean"
    assert status.stdout.splitlines()[-1] == ""

    # The code changes: everything is stale, and a backfill of two days repairs two.
    terminal.edit("jobs/clicks.py", 'contains("bot")', 'contains("robot")')
    assert terminal.states() == dict.fromkeys(DAYS, "stale")
    done = terminal.ask("backfill", "clicks", "--from", DAYS[0], "--to", DAYS[2], "--yes")
    assert [(each["interval"], each["added"], each["outcome"]) for each in done["intervals"]] == [
        (DAYS[0], 1, "swapped"),
        (DAYS[1], 0, "equal"),
    ]
    assert terminal.states() == {DAYS[0]: "clean", DAYS[1]: "clean", DAYS[2]: "stale"}
    assert rows(spark, terminal) == 12

    # Looked at, taken back, published again.
    shown = terminal.type("diff", done["run"]).stdout
    assert "+  2024-03-01" in shown
    assert "crawler-7" in shown
    assert DAYS[0] in terminal.ask("undo", done["run"])["undone"]
    assert rows(spark, terminal) == 11
    assert terminal.states()[DAYS[0]] == "dirty"
    assert terminal.ask("publish", done["run"])["intervals"][0]["outcome"] == "swapped"
    assert terminal.states()[DAYS[0]] == "clean"

    # Verified: what the ledger calls clean holds.
    verified = terminal.ask("verify", "clicks")
    assert (verified["intervals"], verified["holds"]) == (DAYS[:2], True)

    # An event file that was changed after it was read: no promise survives that, and verify says where.
    terminal.edit("data/clicks/2024-03-02.json", '"alan"', '"alonzo"')
    differing = terminal.type("verify", "clicks", "--from", DAYS[1], "--to", DAYS[2])
    assert differing.exit_code == 1
    assert "1 of 1 interval" in differing.stdout
    assert "alonzo" in differing.stdout


def test_a_gate_that_refuses_ends_with_1_and_publishes_nothing(terminal: Terminal, spark: SparkSession):
    terminal.edit(
        "conf/pipelines/clicks.yml", "interval: day", "interval: day\ngate: {max_removed: 10%, min_rows: 1}"
    )
    assert terminal.type("run", "clicks", "--available-now").exit_code == 0
    terminal.edit("jobs/clicks.py", 'contains("bot")', 'contains("fire")')

    refused = terminal.ask("backfill", "clicks", "--stale", "--yes", code=1)

    assert refused["refused"]["error"] == "QUALITY"
    assert rows(spark, terminal) == 11
    assert terminal.type("publish", refused["run"]).exit_code == 1
    words = ["--force", "--why", "fires are no clicks"]
    assert terminal.ask("publish", refused["run"], "--force", code=2)["error"] == "PLAN"
    done = terminal.ask("publish", refused["run"], *words)
    assert (done["refused"], done["chunks"][0]["forced"]) == (None, "fires are no clicks")
    assert terminal.ask("diff", refused["run"])["forced"] == "fires are no clicks"
    assert "forced past the gate: fires are no clicks" in terminal.type("status", "clicks").stdout
    assert terminal.states() == dict.fromkeys(DAYS, "clean")


def test_a_new_pipeline_is_bootstrapped(terminal: Terminal, spark: SparkSession):
    asked = ("bootstrap", "clicks", "--newest-first", "--chunk", "2")
    foreseen = terminal.ask(*asked, "--dry-run")
    assert foreseen["chunks"] == [[DAYS[2], DAYS[1]], [DAYS[0]]]
    assert not (terminal.project / "data/tables").exists()
    said = terminal.type("bootstrap", "clicks", "--dry-run").stdout
    assert said.splitlines()[0] == "clicks: the stream's first batch takes all there is"

    done = terminal.ask(*asked)
    assert [chunk["outcome"] for chunk in done["backfill"]["chunks"]] == ["swapped", "swapped"]
    assert terminal.states() == dict.fromkeys(DAYS, "clean")
    assert rows(spark, terminal) == 11
    assert terminal.type(*asked).stdout.startswith("clicks: all is computed up to ")
    assert terminal.type("run", "--available-now").stdout == "clicks  ok  0 batches published\n"
    assert "nowhere" in terminal.ask("bootstrap", "nowhere", code=2)["message"]
