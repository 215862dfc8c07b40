from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tidemill.errors import EnvironmentProblem
from tidemill.execution import jars
from tidemill.execution.jars import MARKER, Jar, Lock, fetch, load_lock, parse_lock

CONTENT = b"a class or two"
JAR = Jar("org.example:thing:1.0", "thing-1.0.jar", hashlib.sha256(CONTENT).hexdigest())
LOCK = Lock((JAR,), "digest-1")


class Repository:
    """Hands out the given bytes, and counts how often it was asked."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.asked = 0

    def __call__(self, wanted: Sequence[Jar], staged: Path) -> None:
        self.asked += 1
        for jar in wanted:
            (staged / jar.file).write_bytes(self.content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_complete_folder_is_not_fetched_again(tmp_path: Path):
    repository = Repository()

    first = fetch(tmp_path, lock=LOCK, resolve=repository)
    second = fetch(tmp_path, lock=LOCK, resolve=repository)

    assert first == second == [tmp_path / JAR.file]
    assert repository.asked == 1
    assert names(tmp_path) == [MARKER, JAR.file]


def test_another_lock_is_fetched_again(tmp_path: Path):
    repository = Repository()
    fetch(tmp_path, lock=LOCK, resolve=repository)

    fetch(tmp_path, lock=Lock((JAR,), "digest-2"), resolve=repository)

    assert repository.asked == 2


def test_a_vanished_file_is_fetched_again(tmp_path: Path):
    fetch(tmp_path, lock=LOCK, resolve=Repository())
    (tmp_path / JAR.file).unlink()

    fetch(tmp_path, lock=LOCK, resolve=Repository())

    assert (tmp_path / JAR.file).read_bytes() == CONTENT


def test_a_changed_file_is_refused_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(EnvironmentProblem) as refusal:
        fetch(tmp_path, lock=LOCK, resolve=Repository(b"something else"))

    assert refusal.value.params["coordinate"] == JAR.coordinate
    assert refusal.value.params["expected"] == JAR.sha256
    assert refusal.value.params["found"] == hashlib.sha256(b"something else").hexdigest()
    assert names(tmp_path) == []


def test_a_refusal_leaves_what_was_there(tmp_path: Path):
    fetch(tmp_path, lock=LOCK, resolve=Repository())

    with pytest.raises(EnvironmentProblem):
        fetch(tmp_path, lock=Lock((JAR,), "digest-2"), resolve=Repository(b"something else"))

    assert (tmp_path / JAR.file).read_bytes() == CONTENT


def test_a_file_that_does_not_arrive_is_an_error(tmp_path: Path):
    with pytest.raises(EnvironmentProblem) as problem:
        fetch(tmp_path, lock=LOCK, resolve=lambda _jars, _staged: None)

    assert problem.value.params["coordinate"] == JAR.coordinate


def test_two_fetches_at_once_both_end_with_the_files(tmp_path: Path):
    meeting = threading.Barrier(2, timeout=30)
    results: list[list[Path]] = []

    def resolve(wanted: Sequence[Jar], staged: Path) -> None:
        Repository()(wanted, staged)
        meeting.wait()  # both have staged before either publishes

    threads = [
        threading.Thread(target=lambda: results.append(fetch(tmp_path, lock=LOCK, resolve=resolve)))
        for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [[tmp_path / JAR.file]] * 2
    assert names(tmp_path) == [MARKER, JAR.file]


def test_the_packaged_lock_pins_every_file_by_name_and_hash():
    lock = load_lock()

    for jar in lock.jars:
        _, name, version = jar.coordinate.split(":")
        assert jar.file == f"{name}-{version}.jar"
        assert len(bytes.fromhex(jar.sha256)) == 32


def test_a_changed_lock_has_another_digest():
    text = '[[jar]]\ncoordinate = "a:b:1"\nfile = "b-1.jar"\nsha256 = "00"\n'

    assert parse_lock(text).digest != parse_lock(text + "# touched\n").digest


def test_the_folder_is_the_one_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TIDEMILL_JARS", str(tmp_path / "elsewhere"))

    assert jars.folder() == tmp_path / "elsewhere"


def test_the_folder_is_the_projects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("TIDEMILL_JARS", raising=False)
    deep = tmp_path / "project" / "notebooks" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "project" / "conf").mkdir()
    monkeypatch.chdir(deep)

    assert jars.folder() == tmp_path / "project" / ".jars"


def test_a_java_home_without_java_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    with pytest.raises(EnvironmentProblem) as problem:
        fetch(tmp_path / "jars")

    assert problem.value.next_step
    assert names(tmp_path / "jars") == []
