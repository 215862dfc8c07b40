"""A project with a store of keys of its own, by the command line alone, in a process that was started elsewhere: sealed, opened, erased."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

import tidemill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
KEYS = """
from functools import lru_cache
from pathlib import Path

from safe.names import FILE
from tidemill.erasure import FileKeys, KeyStore


@lru_cache
def made():
    return FileKeys(f"{Path(__file__).parent}/{FILE}")


class Vault(KeyStore):
    def keys(self, subjects):
        return made().keys(subjects)

    def known(self, subjects):
        return made().known(subjects)

    def erase(self, subject):
        return made().erase(subject)

    def named(self):
        return made().named()


def vault():
    return Vault()
"""
PERSONAL = "personal: {keys: 'safe.keys:vault', "
READS = {
    "visits": "source: {files: {path: data/in, format: json, max_files_per_batch: 9, "
    f"schema: 'id BIGINT, user STRING, email STRING, at TIMESTAMP'}}, {PERSONAL}subject: user, seal: [email]}}}}",
    "letters": f"source: {{delta: {{path: data/visits}}, {PERSONAL}open: [email]}}}}\ntransform: post:letters",
    "book": "sources: {visits: {delta: {path: data/visits}}, "
    f"people: {{delta: {{path: data/visits}}, static: true, {PERSONAL}open: [email]}}}}}}\ntransform: post:book",
}
POST = """
from pyspark.sql import functions as F


def letters(visits):
    return visits.select("id", F.upper("email").alias("to"), "at")


def book(visits, people):
    return visits.select("id", "at").join(people.select("id", "email"), "id", "left")
"""
TYPED = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout

from deltalake import DeltaTable
from tidemill.cli.app import main
from tidemill.execution.session import build_session
from tidemill.testing.processes import SMALL, short_lived

build_session("own keys", master="local[2]", settings=short_lived(SMALL))
project, found = sys.argv[1], []
for words in json.loads(sys.argv[2]):
    if words[0] == "move":
        import os
        os.rename(f"{project}/{words[1]}", f"{project}/{words[2]}")
        continue
    if words[0] == "delete":
        DeltaTable(f"{project}/{words[1]}").delete(words[2])
        continue
    said, code = io.StringIO(), 0
    with redirect_stdout(said), redirect_stderr(said):
        try:
            main([*words, "--project", project])
        except SystemExit as end:
            code = end.code
    found.append((code, said.getvalue()))
print("FOUND" + json.dumps(found))
"""


def test_a_store_of_the_project_s_own_serves_streams_backfills_and_erasure(tmp_path: Path):
    project = tmp_path / "project"
    for folder in ("conf/pipelines", "data/in", "safe"):
        (project / folder).mkdir(parents=True)
    for name, reads in READS.items():
        (project / f"conf/pipelines/{name}.yml").write_text(
            f"name: {name}\n{reads}\nevent_time: {{column: at}}\ninterval: day\n"
            f"sink: {{delta: {{path: data/{name}}}}}\ntrigger: {{available_now: true}}\n"
        )
    (project / "post.py").write_text(POST)
    (project / "safe/keys.py").write_text(KEYS)
    (project / "safe/names.py").write_text("FILE = 'own.db'\n")
    for day, users in enumerate((("ada", "bob"), ("bob", "cid"))):
        rows = [(10 * day + i, user) for i, user in enumerate(users)]
        events = [
            {"id": n, "user": user, "email": f"{user}@x", "at": f"2024-03-0{day + 1}T08:00:00Z"}
            for n, user in rows
        ]
        (project / f"data/in/{day}.json").write_text("\n".join(map(json.dumps, events)))

    sealed, opened, hindered, status, erased, backfilled = typed(
        project,
        ["run", "visits", "--available-now"],
        ["run", "letters", "book", "--available-now"],
        # Before the person is erased, somebody takes their rows out of the table that is read.
        ["delete", "data/visits", "user = 'cid'"],
        ["move", "data/in/1.json", "data/away.json"],
        ["erase", "cid", "--yes"],
        ["status", "visits", "--json"],
        ["move", "data/away.json", "data/in/1.json"],
        ["erase", "cid", "--yes", "--json"],
        ["backfill", "letters", "--dirty", "--yes", "--json"],
    )

    assert (sealed[0], opened[0]) == (0, 0), (sealed, opened)
    both, second = ["2024-03-01", "2024-03-02"], ["2024-03-02"]
    assert hindered[0] == 1
    assert "the key is gone, for good; but not all was reached" in hindered[1]
    assert re.search(r"visits: .*in/1\.json", hindered[1])
    (visits,) = json.loads(status[1])["pipelines"]
    assert {each["interval"] for each in visits["intervals"] if each["state"] == "dirty"} == set(both)
    assert erased[0] == 0, erased
    found = json.loads(erased[1])
    assert found["keys"] == 0
    intervals = {each["pipeline"]: each["intervals"] for each in found["pipelines"]}
    assert intervals == {"visits": second, "letters": second, "book": both}
    assert backfilled[0] == 0, backfilled
    files = DeltaTable(str(project / "data/letters")).file_uris()
    rows = duckdb.sql(f'SELECT id, "to" FROM read_parquet({files}) ORDER BY id').fetchall()
    assert rows == [(0, "ADA@X"), (1, "BOB@X"), (10, "BOB@X")]
    assert (project / "safe/own.db").is_file()


def typed(project: Path, *commands: list[str]) -> list[Any]:
    """The exit code and the words of each command, typed one after the other where nothing but tidemill is to be found."""
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", TYPED, str(project), json.dumps(commands)],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(Path(tidemill.__file__).parents[1]), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "FOUND" in done.stdout, done.stderr[-3000:]
    found: list[Any] = json.loads(done.stdout.partition("FOUND")[2])
    return found
