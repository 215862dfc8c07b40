"""The command line without a JVM: help, errors and their exit codes, JSON, the question before a backfill."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner, Result

from tidemill.cli.app import VERBS, app
from tidemill.cli.output import print_json
from tidemill.cli.shell import Hands
from tidemill.engine import Engine
from tidemill.errors import LeaseHeld, PlanError
from tidemill.planning.plan import Plan
from tidemill.planning.selection import Request

ONE_DAY = ("--from", "2024-03-01", "--to", "2024-03-02")


def call(*words: str, hands: Hands | None = None, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), obj=hands, input=answer)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    assert call("init", str(folder)).exit_code == 0
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# -- help, version, usage --------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_teaches_with_an_example(verb: str):
    shown = call(verb, "--help")

    assert shown.exit_code == 0
    assert f"$ tidemill {verb}" in shown.stdout


def test_help_lists_every_verb_and_is_what_no_word_gets():
    shown = call()

    assert shown.exit_code == 0
    assert all(verb in shown.stdout for verb in VERBS)


def test_version():
    assert call("--version").stdout.startswith("tidemill ")


def test_a_misspelt_option_is_a_usage_error_with_a_next_step():
    refused = call("plan", "clicks", "--frm", "2024-03-01")

    assert refused.exit_code == 2
    assert "--frm" in refused.stderr
    assert "next: see: tidemill plan --help" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_usage_error_is_json_too():
    refused = call("plan", "--json")

    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["error"] == "CONFIG"


# -- errors ----------------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_file_line_and_suggestion(project: Path):
    edit(project / "conf/pipelines/clicks.yml", "transform:", "transfrom:")

    refused = call("validate", "--project", str(project))

    assert refused.exit_code == 2
    assert "clicks.yml:9" in refused.stderr
    assert "transfrom" in refused.stderr
    assert "did you mean 'transform'?" in refused.stderr


def test_an_unknown_pipeline_is_answered_with_a_suggestion(project: Path):
    refused = call("plan", "click", "--project", str(project))

    assert refused.exit_code == 2
    assert "next: did you mean 'clicks'?" in refused.stderr


def test_a_run_that_is_not_there_is_answered_with_those_that_are(project: Path):
    for verb in ("diff", "publish", "undo", "resume"):
        refused = call(verb, "20240301T000000-abc", "--project", str(project))
        assert refused.exit_code == 2
        assert "next: none is kept here" in refused.stderr
    for name in ("20240229T000000-1", "20240302T000000-2"):
        (project / "data/tables/clicks/_tidemill/runs" / name).mkdir(parents=True)
    refused = call("undo", "20240301T000000-abc", "--project", str(project))
    newest = "20240302T000000-2 (clicks), 20240229T000000-1 (clicks)"
    assert f"next: the newest runs here: {newest}" in refused.stderr


def test_a_misspelt_verb_is_answered_with_the_one_that_may_be_meant():
    refused = call("stauts", "--json")

    assert refused.exit_code == 2
    assert "status" in json.loads(refused.stdout)["message"]


def test_an_error_as_json_is_the_only_thing_on_stdout(project: Path):
    refused = call("plan", "click", "--project", str(project), "--json")

    assert refused.exit_code == 2
    assert refused.stderr == ""
    assert set(json.loads(refused.stdout)) == {"error", "message", "next_step", "params"}
    assert json.loads(refused.stdout)["params"] == {"pipeline": "click"}


def test_what_a_project_s_code_prints_is_not_in_the_document(project: Path):
    def talking(project: Path | None, *, env: str | None, say: Callable[[str], None]) -> Engine:
        print("loading")  # noqa: T201  as a module of a project may
        return Engine(project, env=env, say=say)

    for words, code in ((("status",), 0), (("plan", "clicks"), 0), (("plan", "click"), 2)):
        shown = call(*words, "--project", str(project), "--json", hands=Hands(engine=talking))
        assert (shown.exit_code, shown.stderr) == (code, "loading\n")
        assert json.loads(shown.stdout)


def test_a_reader_who_has_seen_enough_is_no_error():
    for words in ("schema", "--help"):
        reads, writes = os.pipe()
        os.close(reads)
        command = [sys.executable, "-m", "tidemill", words]
        ran = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writes)
        assert ran.stderr == ""


def test_no_project(tmp_path: Path):
    refused = call("status", "--project", str(tmp_path), "--json")

    assert refused.exit_code == 2
    assert "tidemill init" in json.loads(refused.stdout)["next_step"]


def test_an_unforeseen_error_shows_its_traceback_only_when_asked(project: Path):
    def broken(*_args: Any, **_options: Any) -> Engine:
        raise RuntimeError("no such thing")

    quiet = call("status", "--project", str(project), hands=Hands(engine=broken))
    loud = call("status", "--project", str(project), "--debug", hands=Hands(engine=broken))

    assert (quiet.exit_code, loud.exit_code) == (1, 1)
    assert "error: RuntimeError: no such thing" in quiet.stderr
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_json_has_no_words_of_its_own_for_what_is_no_number(capsys: pytest.CaptureFixture[str]):
    print_json({"rows": [(1.5, math.nan)], "most": math.inf, "least": -math.inf})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"rows": [[1.5, "NaN"]], "most": "Infinity", "least": "-Infinity"}


# -- init, schema, validate ------------------------------------------------------------------------------


def test_init_writes_a_project_that_validates(project: Path):
    assert (project / ".gitignore").is_file()
    assert not list(project.rglob("dot-*"))
    checked = call("validate", "--project", str(project), "--json")

    assert checked.exit_code == 0
    assert [each["ok"] for each in json.loads(checked.stdout)["pipelines"]] == [True]


def test_init_refuses_a_project(project: Path):
    refused = call("init", str(project))

    assert refused.exit_code == 2
    assert "conf folder already" in refused.stderr


def test_init_overwrites_nothing(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    assert call("init", str(tmp_path)).exit_code == 0
    assert (tmp_path / "README.md").read_text() == "mine"

    other = tmp_path / "other"
    (other / "jobs").mkdir(parents=True)
    (other / "jobs" / "clicks.py").write_text("mine")
    refused = call("init", str(other))

    assert refused.exit_code == 2
    assert "jobs/clicks.py" in refused.stderr
    assert sorted(path.name for path in other.rglob("*")) == ["clicks.py", "jobs"]


def test_schema_is_a_json_schema_that_knows_the_keys():
    schema = json.loads(call("schema").stdout)

    Draft202012Validator.check_schema(schema)
    assert {"source", "sink", "interval", "transform"} <= set(schema["properties"])


def test_validate_refuses_what_cannot_be_repeated(project: Path):
    edit(project / "jobs/clicks.py", '"user",', '"user", F.rand(),')

    refused = call("validate", "--project", str(project))
    body = json.loads(call("validate", "--project", str(project), "--json").stdout)

    assert refused.exit_code == 2
    assert "jobs/clicks.py:20: F.rand" in refused.stdout
    assert body["ok"] is False
    assert body["pipelines"][0]["suspects"][0]["line"] == 20


def test_validate_finds_a_transform_that_is_not_there(project: Path):
    edit(project / "conf/pipelines/clicks.yml", "jobs.clicks:clicks", "jobs.clicks:clack")

    refused = call("validate", "--project", str(project))

    assert refused.exit_code == 2
    assert "'clack'" in refused.stdout


def test_validate_warns_of_a_watermark_of_nothing(project: Path):
    edit(project / "conf/pipelines/clicks.yml", "10 minutes", "0h")

    checked = call("validate", "--project", str(project))

    assert checked.exit_code == 0
    assert "warning: the watermark" in checked.stdout


# -- status and plan -------------------------------------------------------------------------------------


def test_status_of_a_project_without_tables(project: Path):
    shown = call("status", "--project", str(project))
    body = json.loads(call("status", "clicks", "--project", str(project), "--json").stdout)

    assert shown.exit_code == 0
    assert "clicks  no table yet" in shown.stdout
    assert body["pipelines"][0]["intervals"] == []


def test_one_pipeline_that_does_not_load_hides_no_other(project: Path):
    conf = project / "conf/pipelines"
    text = (conf / "clicks.yml").read_text()
    (conf / "broken.yml").write_text(
        text.replace("name: clicks", "name: broken")
        .replace("tables/clicks", "tables/b")
        .replace(":clicks\n", ":no\n")
    )

    shown = call("status", "--project", str(project))

    assert shown.exit_code == 2
    assert "clicks  no table yet" in shown.stdout
    assert "broken  error:" in shown.stdout


def test_status_loads_no_spark(project: Path, tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit, sys\n"
        "heavy = ('pyspark', 'deltalake', 'pandas', 'great_expectations')\n"
        "atexit.register(lambda: print('loaded', *(name for name in heavy if name in sys.modules)))\n"
        "from tidemill.cli.app import main\n"
        f"main(['status', '--project', {str(project)!r}])\n"
    )

    ran = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1] == "loaded"


def test_a_plan_is_kept_and_read_again(project: Path, tmp_path: Path):
    kept = tmp_path / "plan.json"
    planned = call("plan", "clicks", *ONE_DAY, "--out", str(kept), "--project", str(project))

    assert planned.exit_code == 0
    assert "2024-03-01" in planned.stdout
    again = call("backfill", "--plan", str(kept), "--dry-run", "--project", str(project), "--json")
    assert json.loads(again.stdout) == json.loads(kept.read_text())


def test_a_moment_that_does_not_parse(project: Path):
    refused = call("plan", "clicks", "--from", "yesterday", "--project", str(project))

    assert refused.exit_code == 2
    assert "'yesterday' is not a moment" in refused.stderr


# -- backfill: what is asked before anything is done -----------------------------------------------------


@dataclass
class Desk:
    """An engine whose backfills are only noted down; ``busy`` of them meet a lease."""

    busy: int = 0
    terminal: bool = False
    asked: list[tuple[str | Plan, Request | None]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    @property
    def hands(self) -> Hands:
        return Hands(engine=self._engine, is_terminal=lambda: self.terminal, pause=self.pauses.append)

    def _engine(self, project: Path | None, *, env: str | None, say: Callable[[str], None]) -> Engine:
        desk = self

        class Noting(Engine):
            def backfill(self, work: str | Plan, request: Request | None = None, **_options: bool) -> Any:
                desk.asked.append((work, request))
                if len(desk.asked) <= desk.busy:
                    raise LeaseHeld("held", holder="process 7")
                raise PlanError("done")

        return Noting(project, env=env, say=say)


def test_a_backfill_without_a_selection_is_refused(project: Path):
    refused = call("backfill", "clicks", "--yes", "--project", str(project))

    assert refused.exit_code == 2
    assert "say which intervals" in refused.stderr


def test_a_stream_that_holds_no_states_cannot_begin_anew(project: Path):
    refused = call("restart", "clicks", "--dry-run", "--json", "--project", str(project))

    assert refused.exit_code == 2
    assert "clicks: no stream of it holds states" in refused.stdout
    assert "tidemill run clicks" in json.loads(refused.stdout)["next_step"]


def test_without_a_terminal_someone_must_have_agreed(project: Path):
    desk = Desk()
    refused = call("backfill", "clicks", *ONE_DAY, "--project", str(project), hands=desk.hands)

    assert refused.exit_code == 2
    assert "pass --yes" in refused.stderr
    assert desk.asked == []


def test_on_a_terminal_the_plan_is_shown_and_a_no_is_a_no(project: Path):
    desk = Desk(terminal=True)
    refused = call("backfill", "clicks", *ONE_DAY, "--project", str(project), hands=desk.hands, answer="n\n")

    assert refused.exit_code == 1
    assert "stage 2024-03-01" in refused.stderr
    assert desk.asked == []


def test_on_a_terminal_what_was_shown_is_what_runs(project: Path):
    desk = Desk(terminal=True)
    call("backfill", "clicks", *ONE_DAY, "--project", str(project), hands=desk.hands, answer="y\n")

    ((work, request),) = desk.asked
    assert isinstance(work, Plan)
    assert [each.label for each in work.intervals] == ["2024-03-01"]
    assert request is None


def test_a_dry_run_does_nothing(project: Path):
    desk = Desk()
    shown = call("backfill", "clicks", *ONE_DAY, "--dry-run", "--project", str(project), hands=desk.hands)

    assert shown.exit_code == 0
    assert "stage 2024-03-01" in shown.stdout
    assert desk.asked == []
    assert not (project / "data/tables").exists()


def test_a_held_lease_ends_a_backfill_at_once(project: Path):
    desk = Desk(busy=1)
    refused = call("backfill", "clicks", *ONE_DAY, "--yes", "--project", str(project), hands=desk.hands)

    assert (refused.exit_code, desk.pauses) == (2, [])
    assert "error: held" in refused.stderr


def test_with_wait_a_backfill_tries_again(project: Path):
    desk = Desk(busy=2)
    call("backfill", "clicks", *ONE_DAY, "--yes", "--wait", "1h", "--project", str(project), hands=desk.hands)

    assert (len(desk.asked), len(desk.pauses)) == (3, 2)


def test_an_interrupted_backfill_says_how_to_carry_on(project: Path):
    class Interrupted(Engine):
        def backfill(self, *_work: Any, **_options: Any) -> Any:
            (project / "data/tables/clicks/_tidemill/runs/20240301T000000-abc").mkdir(parents=True)
            raise KeyboardInterrupt

    hands = Hands(engine=lambda project, *, env, say: Interrupted(project, env=env, say=say))
    stopped = call("backfill", "clicks", *ONE_DAY, "--yes", "--project", str(project), hands=hands)

    assert stopped.exit_code == 130
    assert "tidemill resume 20240301T000000-abc" in stopped.stderr


@pytest.mark.parametrize("verb", [("backfill", "clicks", *ONE_DAY), ("publish", "r1"), ("resume", "r1")])
@pytest.mark.parametrize(
    ("words", "said"), [(["--force"], "needs a reason"), (["--why", "it is right"], "nothing is forced")]
)
def test_to_force_takes_a_reason_and_a_reason_force(
    project: Path, verb: tuple[str, ...], words: list[str], said: str
):
    (project / "data/tables/clicks/_tidemill/runs/r1").mkdir(parents=True)
    desk = Desk(terminal=True)
    refused = call(*verb, *words, "--project", str(project), hands=desk.hands, answer="y\n")

    assert refused.exit_code == 2
    assert said in refused.stderr
    assert "--why" in refused.stderr
    assert desk.asked == []


@pytest.mark.parametrize(
    ("words", "next_step"),
    [
        (
            ("run", "clicks", "--available-now", "--trigger", "10s"),
            "one of --available-now, --trigger, --cron",
        ),
        (("run", "clicks", "--cron", "every morning"), "minute, hour, day, month and weekday: */5 * * * *"),
        (("run", "clicks", "--trigger", "often"), "2 hours, 15m or 1d"),
        (("backfill", "--plan", "nowhere.json", "--yes"), "make one: tidemill plan P --out FILE"),
        (("status", "--env", "prod"), "write it, or leave --env and TIDEMILL_ENV out"),
    ],
)
def test_options_that_make_no_sense(project: Path, words: tuple[str, ...], next_step: str):
    refused = call(*words, "--project", str(project), "--json")

    assert refused.exit_code == 2
    assert next_step in json.loads(refused.stdout)["next_step"]


# -- the project's options -------------------------------------------------------------------------------


def test_the_projects_options_may_stand_before_the_verb(project: Path):
    behind = call("plan", "nosuch", "--project", str(project), "--json")
    before = call("--project", str(project), "--json", "plan", "nosuch")

    assert before.exit_code == behind.exit_code == 2
    assert before.stdout == behind.stdout
