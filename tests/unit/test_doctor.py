from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tidemill import Engine
from tidemill.config import load_project
from tidemill.erasure.keys import FileKeys
from tidemill.errors import StateError
from tidemill.execution import doctor
from tidemill.execution.erase import left_to_do
from tidemill.execution.same_keys import check_keys
from tidemill.model import Pipeline


def test_every_check_says_what_it_found_and_a_failed_one_what_to_do(tmp_path: Path):
    found = doctor.checks(tmp_path)

    assert [check.name for check in found] == [
        *("python", "java", "versions", "jars", "local file system"),
        *("table folder", "disk", "time zones", "keys"),
    ]
    assert all(check.detail for check in found)
    assert all(bool(check.next_step) is not check.ok for check in found)


def test_missing_jars_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TIDEMILL_JARS", str(tmp_path))

    (jars,) = (check for check in doctor.checks(tmp_path) if check.name == "jars")

    assert not jars.ok
    assert "tidemill.execution.jars" in jars.next_step


def test_a_java_home_without_java_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    (java,) = (check for check in doctor.checks(tmp_path) if check.name == "java")

    assert not java.ok
    assert "JAVA_HOME" in java.next_step


def test_a_table_folder_that_does_not_exist_yet_is_fine_and_not_made(tmp_path: Path):
    (folder,) = (check for check in doctor.checks(tmp_path / "a" / "b") if check.name == "table folder")

    assert folder.ok
    assert list(tmp_path.iterdir()) == []


def test_keys_that_are_not_those_of_before_are_reported(tmp_path: Path):
    pipelines = tmp_path / "conf/pipelines"
    pipelines.mkdir(parents=True)
    (pipelines / "visits.yml").write_text(
        "source: {files: {path: in, format: json, schema: 'user STRING, email STRING, at TIMESTAMP'},\n"
        "  personal: {keys: keys.db, subject: user, seal: [email]}}\n"
        "event_time: {column: at}\ninterval: day\nsink: {delta: {path: visits}}\n"
    )

    def keys() -> doctor.Check:
        return next(check for check in doctor.checks(tmp_path / "data") if check.name == "keys")

    assert (keys().ok, keys().detail) == (True, "those of visits")
    assert not (tmp_path / "keys.db").exists()
    check_keys(load_project(tmp_path).pipeline("visits"))
    FileKeys(str(tmp_path / "keys.db")).keys(["ada"])
    assert keys().ok

    (tmp_path / "keys.db").rename(tmp_path / "lost")
    assert (keys().ok, "keys.db are not there" in keys().detail) == (False, True)
    FileKeys(str(tmp_path / "keys.db")).keys(["ada"])
    assert "keys.db are another store" in keys().detail
    assert "keys.json" in keys().next_step
    (tmp_path / "lost").rename(tmp_path / "keys.db")
    FileKeys(str(tmp_path / "keys.db")).erase("ada")
    assert keys().ok


def test_a_store_that_was_put_back_from_before_an_erasure_says_who_has_keys_again(tmp_path: Path):
    pipelines = tmp_path / "conf/pipelines"
    pipelines.mkdir(parents=True)
    for name in ("visits", "calls"):
        (pipelines / f"{name}.yml").write_text(
            "source: {files: {path: in, format: json, schema: 'user STRING, email STRING, at TIMESTAMP'},\n"
            "  personal: {keys: keys.db, subject: user, seal: [email]}}\n"
            f"event_time: {{column: at}}\ninterval: day\nsink: {{delta: {{path: {name}}}}}\n"
        )
    engine, keys = Engine(load_project(tmp_path)), FileKeys(str(tmp_path / "keys.db"))
    visits, calls = (engine.project.pipeline(name) for name in ("visits", "calls"))
    check_keys(visits)
    keys.keys(["ada", "bob", "eve"])
    shutil.copy(tmp_path / "keys.db", tmp_path / "backup")
    keys.keys(["zoe"])
    for who in ("ada", "eve"):
        engine.erase(who)
    keys.erase("zoe")  # by other means: the next start knows of it
    check_keys(visits)
    noted = (tmp_path / "visits/_tidemill/keys.json").read_text()
    assert not any(who in noted for who in ("ada", "bob", "eve", "zoe"))
    check_keys(calls)

    shutil.copy(tmp_path / "backup", tmp_path / "keys.db")

    (check,) = (each for each in doctor.checks(tmp_path / "data") if each.name == "keys")
    assert "keys.db are of a time before 3 of the persons were erased" in check.detail
    assert "tidemill erase ada; tidemill erase eve; and 1 more" in check.next_step
    for each in (visits, calls):
        with pytest.raises(StateError, match="before 3 of the persons were erased"):
            check_keys(each)
    found = engine.erase("ada")
    assert (found.keys, found.again) == (1, ("eve",))
    assert "tidemill erase eve" in left_to_do(found)
    with pytest.raises(StateError, match="before 2 of the persons were erased"):
        check_keys(visits)
    # Of zoe the backup never knew; that she was erased is noted.
    assert (engine.erase("zoe", dry_run=True).known, engine.erase("ada", dry_run=True).known) == (
        "erased",
        "erased",
    )
    # Others who are erased meanwhile do not make up for those who are not.
    engine.erase("bob")
    with pytest.raises(StateError, match="before 2 of the persons were erased"):
        check_keys(visits)
    for who in ("eve", "zoe"):
        engine.erase(who)
    check_keys(visits)
    check_keys(calls)


def test_what_was_noted_of_a_store_before_its_erasures_were_is_understood(tmp_path: Path):
    (tmp_path / "conf/pipelines").mkdir(parents=True)
    (tmp_path / "conf/pipelines/visits.yml").write_text(
        "source: {files: {path: in, format: json, schema: 'user STRING, email STRING, at TIMESTAMP'},\n"
        "  personal: {keys: keys.db, subject: user, seal: [email]}}\n"
        "event_time: {column: at}\ninterval: day\nsink: {delta: {path: visits}}\n"
    )
    visits, keys = load_project(tmp_path).pipeline("visits"), FileKeys(str(tmp_path / "keys.db"))
    keys.erase("ada")
    state = tmp_path / "visits/_tidemill"
    state.mkdir(parents=True)
    (state / "keys.json").write_text(json.dumps({keys.path: keys.named()}))

    check_keys(visits)

    assert json.loads((state / "keys.json").read_text())[keys.path]["name"] == keys.named()
    (state / "keys.json").write_text(json.dumps({keys.path: "another"}))
    with pytest.raises(StateError, match="are another store"):
        check_keys(visits)


def test_a_store_of_keys_that_is_named_by_another_path_is_the_one_of_before_or_refused(tmp_path: Path):
    pipelines = tmp_path / "conf/pipelines"
    pipelines.mkdir(parents=True)

    def visits(keys: str) -> Pipeline:
        (pipelines / "visits.yml").write_text(
            "source: {files: {path: in, format: json, schema: 'user STRING, email STRING, at TIMESTAMP'},\n"
            f"  personal: {{keys: {keys}, subject: user, seal: [email]}}}}\n"
            "event_time: {column: at}\ninterval: day\nsink: {delta: {path: visits}}\n"
        )
        return load_project(tmp_path).pipeline("visits")

    check_keys(visits("keys.db"))
    with pytest.raises(StateError, match="not there"):
        check_keys(visits("moved.db"))
    assert not (tmp_path / "moved.db").exists()
    (tmp_path / "keys.db").rename(tmp_path / "moved.db")
    check_keys(visits("moved.db"))
