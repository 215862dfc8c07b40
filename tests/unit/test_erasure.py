from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

import tidemill
from tidemill.cli.app import app
from tidemill.cli.backfill import done_parts
from tidemill.cli.outcomes import done_as_json
from tidemill.cli.shell import Hands
from tidemill.config import parse_pipeline
from tidemill.config.fingerprint import fingerprint
from tidemill.erasure.keys import FileKeys, KeyStore
from tidemill.erasure.seal import KEY_BYTES, mark_of, opened, sealed, subjects_of
from tidemill.erasure.stores import key_store, sent_keys
from tidemill.errors import ConfigError, StateError, TransformError
from tidemill.execution.backfill import ChunkDone, Done
from tidemill.execution.erase import Erasure, Reached
from tidemill.execution.runs import Manifest
from tidemill.ledger.facts import IntervalResult
from tidemill.model import Personal

KEYS = {"ada": bytes(range(KEY_BYTES)), "bob": bytes(reversed(range(KEY_BYTES))), "": b"x" * KEY_BYTES}


@given(st.lists(st.tuples(st.none() | st.text(), st.sampled_from([None, "ada", "bob"])), max_size=8))
def test_what_is_sealed_opens_as_it_was(rows):
    values, subjects = [value for value, _ in rows], [subject for _, subject in rows]

    texts = sealed(values, subjects, "email", KEYS)

    assert opened(texts, KEYS) == values
    assert sealed(values, subjects, "email", KEYS) == texts
    assert subjects_of(texts) == {subject or "" for value, subject in rows if value is not None}
    assert not any(
        value and len(value) > 3 and value in text for value, text in zip(values, texts, strict=True) if text
    )


@pytest.mark.parametrize("value", ["", "\0", "\0\0", "\1", '\1{"a": 1}', "\0a"])
def test_texts_that_begin_like_our_own_marks_open_as_they_were(value: str):
    assert opened(sealed([value], ["ada"], "email", KEYS), KEYS) == [value]


def test_of_an_erased_subject_nothing_opens_and_the_others_do():
    texts = sealed(["a@x", "b@x"], ["ada", "bob"], "email", KEYS)
    erased = {**KEYS, "ada": None}

    assert opened(texts, erased) == [None, "b@x"]
    assert sealed(["a@x", "new@x"], ["ada", "ada"], "email", erased) == [f"{mark_of('ada')}ZW1haWw=:"] * 2
    assert opened(sealed(["a@x"], ["ada"], "email", erased), KEYS) == [None]


def test_a_text_that_is_not_sealed_opens_as_itself():
    assert opened(["plain", None, ""], {}) == ["plain", None, ""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            sealed(["a"], ["ada"], "email", KEYS)[0].replace("ZW1haWw=", "bmFtZQ=="),
            "name of 'ada' does not open",
        ),
        (sealed(["a"], ["eve"], "email", {"eve": b"k" * KEY_BYTES})[0], "the keys have none of this subject"),
        ("sealed:1:no such thing", "is not sealed"),
        (sealed(["a"], ["ada"], "email", {"ada": b"k" * KEY_BYTES})[0], "email of 'ada' does not open"),
    ],
)
def test_what_was_changed_or_whose_key_is_lost_is_an_error(text: str, said: str):
    with pytest.raises(TransformError, match=said):
        opened([text], KEYS)


def test_a_file_keeps_one_key_a_subject_whoever_asks_first(tmp_path: Path):
    keys = FileKeys(str(tmp_path / "of/keys.db"))
    subjects = [f"s{i}" for i in range(1200)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: keys.keys(subjects), range(4)))

    assert all(each == found[0] for each in found)
    assert len(set(found[0].values())) == len(subjects)
    assert all(len(key) == KEY_BYTES for key in found[0].values())
    assert keys.known(["s1", "nobody"]) == {"s1": found[0]["s1"]}
    assert stat.S_IMODE((tmp_path / "of/keys.db").stat().st_mode) == 0o600


def test_an_erased_key_is_nowhere_in_the_file_and_comes_never_again(tmp_path: Path):
    path = tmp_path / "keys.db"
    keys = FileKeys(str(path))
    key = keys.keys(["ada", "bob"])["ada"]
    keys.keys(["eve"])
    journal = tmp_path / "keys.db-journal"
    # What is unlinked stays on the disk for anybody to find: the journal, too, is overwritten and not removed.
    assert key in path.read_bytes()
    assert key in journal.read_bytes()
    before = {each.name: (each.stat().st_ino, each.stat().st_size) for each in tmp_path.iterdir()}

    assert keys.erase("ada")

    after = {each.name: (each.stat().st_ino, each.stat().st_size) for each in tmp_path.iterdir()}
    assert before == after
    assert key not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not any(journal.read_bytes())
    assert keys.keys(["bob", "zoe"]).keys() == {"bob", "zoe"}
    assert keys.keys(["ada"]) == {"ada": None}
    assert not keys.erase("ada")
    assert not keys.erase("never seen")
    assert keys.keys(["never seen"]) == {"never seen": None}
    assert keys.known(["bob"])["bob"] is not None


def test_an_erasure_that_died_before_the_journal_was_overwritten_is_mended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    keys = FileKeys(str(tmp_path / "keys.db"))
    key = keys.keys(["ada", "bob"])["ada"]
    with monkeypatch.context() as patch:
        patch.setattr("tidemill.erasure.keys._blank", _dies)
        with pytest.raises(KeyboardInterrupt):
            keys.erase("ada")
    assert key in (tmp_path / "keys.db-journal").read_bytes()

    assert not keys.erase("ada")

    assert key not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_file_that_holds_no_keys_is_an_error(tmp_path: Path):
    (tmp_path / "keys.db").write_text("these are no keys, and never were: " * 100)

    with pytest.raises(StateError, match="cannot be used"):
        FileKeys(str(tmp_path / "keys.db")).keys(["ada"])
    assert sqlite3.sqlite_version


def test_a_store_is_a_file_or_a_factory(tmp_path: Path):
    assert key_store(f"{tmp_path}/keys.db") == FileKeys(f"{tmp_path}/keys.db")
    assert key_store("tests.unit.test_erasure:my_keys") == FileKeys("mine")
    with pytest.raises(ConfigError, match="is not there"):
        key_store("tests.unit.test_erasure:no_such")
    with pytest.raises(ConfigError, match="gives dict"):
        key_store("builtins:dict")


def my_keys() -> FileKeys:
    return FileKeys("mine")


def pipeline(tmp_path: Path, personal: dict | None):
    return parse_pipeline(
        {
            "name": "visits",
            "source": {
                "files": {
                    "path": "in",
                    "format": "json",
                    "schema": "user STRING, email STRING, at TIMESTAMP",
                },
                **({} if personal is None else {"personal": personal}),
            },
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": "out"}},
            "trigger": {"available_now": True},
        },
        tmp_path,
    )


def test_keys_lie_in_the_project_and_where_they_lie_decides_no_row(tmp_path: Path):
    sealing = {"keys": "keys.db", "subject": "user", "seal": ["email"]}
    one, other, none = (pipeline(tmp_path, each) for each in (sealing, {**sealing, "keys": "else.db"}, None))

    assert one.inputs["events"].personal.keys == str(tmp_path / "keys.db")
    assert fingerprint(one, str(tmp_path)) == fingerprint(other, str(tmp_path))
    assert fingerprint(one, str(tmp_path)) != fingerprint(none, str(tmp_path))


@pytest.mark.parametrize(
    ("personal", "said"),
    [
        ({"keys": "k", "subject": "user"}, "either seal or open"),
        ({"keys": "k", "subject": "user", "seal": ["email"], "open": ["email"]}, "either seal or open"),
        ({"keys": "k", "seal": ["email"]}, "needs subject"),
        ({"keys": "k", "subject": "email", "seal": ["email"]}, "cannot be sealed"),
        ({"subject": "user", "seal": ["email"]}, "keys"),
        ({"keys": "k", "subject": "data.user", "seal": ["data"]}, "cannot be sealed"),
        ({"keys": "k", "subject": "user", "seal": ["data.a", "data.a.b"]}, "data.a.b within data.a"),
        ({"keys": "k", "open": ["email", "email"]}, "email twice"),
        ({"keys": "k", "open": ["data."]}, "names no field"),
        ({"keys": "k", "subject": ".user", "seal": ["email"]}, "names no field"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, personal: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        pipeline(tmp_path, personal)


def test_what_is_decided_for_ever_is_not_opened(tmp_path: Path):
    values = {
        "name": "store",
        "source": {
            "files": {
                "path": "in",
                "format": "json",
                "schema": "id STRING, type STRING, subject STRING, time TIMESTAMP, data STRING",
            },
            "personal": {"keys": "k", "open": ["data"]},
        },
        "event_time": {"column": "time"},
        "interval": "day",
        "transform": [{"decide": "jobs.library:LIBRARY"}],
        "sink": {"delta": {"path": "out"}},
    }

    with pytest.raises(ConfigError, match="leave them sealed"):
        parse_pipeline(values, tmp_path)


@dataclass
class Mill:
    """An engine that has a store of events and a table that opens; it notes whom it erased."""

    erased: list[str] = field(default_factory=list)

    def erase(self, subject: str, *, dry_run: bool, unseen: bool) -> Erasure:
        assert not unseen
        if not dry_run:
            self.erased.append(subject)
        reached = (
            Reached("bank", rows=4, events=3, rejections=2, set_aside=1),
            Reached("owners", rows=1, intervals=("all",), opens=True, running=True),
        )
        return Erasure(1, reached, dry_run, ("owners", "letters"), ("owners",))


def call(mill: Mill, *words: str, person: bool = False, answer: str | None = None) -> Result:
    hands = Hands(engine=lambda *_, **__: mill, is_terminal=lambda: person)  # type: ignore[arg-type, return-value]
    return CliRunner().invoke(app, ["erase", "ada", *words], obj=hands, input=answer)


def test_the_verb_says_what_it_reached_and_what_is_left_to_do():
    mill = Mill()

    said = call(mill, "--yes").stdout
    foreseen = call(mill, "--dry-run")
    body = json.loads(call(mill, "--dry-run", "--json").stdout)

    assert mill.erased == ["ada"]
    assert re.search(r"bank +4 +3 +2 +1", said)
    assert re.search(r"owners +1 .*1: all +opens fields", said)
    assert "owners: a stream is running; the batch under way may have had the key" in said
    assert [line.split("next: ")[1] for line in said.splitlines() if "next: " in line] == [
        "tidemill backfill owners --dirty",
        "tidemill backfill letters --dirty",
        "tidemill maintain owners",
    ]
    assert "1 key would be erased" in foreseen.stdout
    assert (body["backfill"], body["pipelines"][0]["rejections"]) == (["owners", "letters"], 2)
    assert "ada" not in json.dumps(body)


def test_the_verb_asks_a_person_and_refuses_where_there_is_none():
    mill = Mill()

    assert call(mill).exit_code == call(mill, "--json").exit_code == 2
    assert "nobody is there to agree to it" in call(mill).stderr
    assert call(mill, person=True, answer="n\n").exit_code != 0
    assert mill.erased == []
    assert call(mill, person=True, answer="y\n").exit_code == 0
    assert mill.erased == ["ada"]


@pytest.mark.parametrize("keys", ["keys.db", "tests.unit.test_erasure:plain_keys"])
def test_who_was_never_seen_is_told_from_who_was_erased_and_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str
):
    (tmp_path / "conf/pipelines").mkdir(parents=True)
    (tmp_path / "conf/pipelines/visits.yml").write_text(
        "source: {files: {path: in, format: json, schema: 'user STRING, email STRING, at TIMESTAMP'},\n"
        f"  personal: {{keys: '{keys}', subject: user, seal: [email]}}}}\n"
        "event_time: {column: at}\ninterval: day\nsink: {delta: {path: visits}}\n"
    )
    monkeypatch.chdir(tmp_path)
    store = key_store(keys if ":" in keys else str(tmp_path / keys))
    store.keys(["ada"])

    def said(*words: str) -> Result:
        return CliRunner().invoke(app, ["erase", *words, "--project", str(tmp_path)])

    for refused in (said("eve", "--yes"), said("eve", "--dry-run"), said("eve", "--dry-run", "--json")):
        assert refused.exit_code == 2
        assert "no key of 'eve' is known" in refused.output
        assert "check how they are named in user;" in refused.output
        assert "--unseen" in refused.output
    assert store.known(["eve"]) == {}
    assert store.keys(["eve"])["eve"] is not None  # who comes under this name is a person as any other

    assert "1 key would be erased" in said("ada", "--dry-run").output
    assert json.loads(said("ada", "--yes", "--json").output)["known"] == "key"
    for again in (said("ada", "--dry-run"), said("ada", "--yes")):
        assert (again.exit_code, "erased before: no key is left" in again.output) == (0, True)
    assert json.loads(said("ada", "--yes", "--json").output)["known"] == "erased"

    assert "under this name would be unreadable" in said("zoe", "--dry-run", "--unseen").output
    assert store.known(["zoe"]) == {}
    assert json.loads(said("zoe", "--yes", "--unseen", "--json").output)["known"] == "unseen"
    assert store.keys(["zoe"]) == {"zoe": None}


def test_a_backfill_that_took_a_person_out_offers_no_way_back(tmp_path: Path):
    made = Manifest("r1", 0, "f", 7, {}, False, ("2024-03-01",), (), (), {"2024-03-01": IntervalResult(1)})
    one = pipeline(tmp_path, None)

    def said(erased: tuple[str, ...]) -> str:
        done = Done("r1", "visits", (ChunkDone(0, "swapped", made, erased=erased),))
        assert done_as_json(done, one)["chunks"][0]["erased"] == list(erased)
        with (console := Console(width=200)).capture() as shown:
            console.print(*done_parts(done, one))
        return shown.get()

    assert "tidemill undo r1" in said(())
    assert "tidemill undo r1" not in said(("2024-03-01",))
    assert "no way back" in said(("2024-03-01",))


HELD: dict[str, bytes | None] = {}


class Plain(KeyStore):
    """The least that a store of a project's own has to be."""

    def keys(self, subjects: Collection[str]) -> dict[str, bytes | None]:
        return {each: HELD.setdefault(each, bytes(KEY_BYTES)) for each in subjects}

    def known(self, subjects: Collection[str]) -> dict[str, bytes | None]:
        return {each: HELD[each] for each in subjects if each in HELD}

    def erase(self, subject: str) -> bool:
        had = HELD.get(subject) is not None
        HELD[subject] = None
        return had


def plain_keys() -> Plain:
    return Plain()


VAULT = """
from dataclasses import dataclass

from safe.names import FILE
from tidemill.erasure import FileKeys, KeyStore


@dataclass(frozen=True, slots=True)
class Vault(KeyStore):
    folder: str

    def _keys(self):
        return FileKeys(f"{self.folder}/{FILE}")

    def keys(self, subjects):
        return self._keys().keys(subjects)

    def known(self, subjects):
        return self._keys().known(subjects)

    def erase(self, subject):
        return self._keys().erase(subject)


def vault():
    return Vault(FOLDER)
"""
ELSEWHERE = """
import pickle, sys
import pyarrow
from tidemill.erasure.sent import SentKeys
for root in ("", sys.argv[2]):
    keys = SentKeys(open(sys.argv[1], "rb").read(), root).open()
    print(type(keys).__module__, len(keys.keys(["ada"])["ada"]), "safe" in sys.modules)
"""


def test_a_store_of_the_project_is_found_where_its_folder_is_and_goes_where_it_is_not(tmp_path: Path):
    project, other = tmp_path / "one", tmp_path / "other"
    for folder in (project, other):
        (folder / "safe").mkdir(parents=True)
        (folder / "safe/names.py").write_text(f"FILE = '{folder.name}.db'\n")
        (folder / "safe/keys.py").write_text(VAULT.replace("FOLDER", repr(str(folder))))
    personal = Personal(keys="safe.keys:vault", subject="user", seal=("email",))

    for folder in (project, other, project):
        store = key_store("safe.keys:vault", str(folder))
        assert store.keys(["ada"]).keys() == {"ada"}
        assert (folder / f"{folder.name}.db").is_file()
    (tmp_path / "sent").write_bytes(sent_keys(personal.of_project(str(project))).body)
    found = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path / "sent"), str(project)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(tidemill.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.stdout.split("\n")[:-1] == ["safe.keys 64 False"] * 2, found.stderr
    for code, said in (
        ("1 / 0", "ZeroDivisionError"),
        ("def vault():\n    open('/none')", "FileNotFoundError"),
    ):
        (project / "safe/keys.py").write_text(code)
        with pytest.raises(StateError, match=f"keys safe.keys:vault cannot be used: {said}"):
            key_store("safe.keys:vault", str(project))
