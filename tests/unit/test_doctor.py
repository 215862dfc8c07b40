from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.config import load_project
from tidemill.erasure.keys import FileKeys
from tidemill.errors import StateError
from tidemill.execution import doctor
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
