"""The archive of Spark's classes is one that the JVM of this checkout takes: it says nothing where it does not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tidemill.testing import classes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no archive elsewhere")


@pytest.fixture
def jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of the jars of a checkout whose archives are made of nothing."""
    (tmp_path / "jars").mkdir()
    file = tmp_path / "jars" / "one.jar"
    file.write_bytes(b"classes")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TIDEMILL_JARS", str(tmp_path / "jars"))
    monkeypatch.setattr(classes, "_make", lambda path: path.write_bytes(b""))
    return file


def made() -> Path:
    path = classes.archive()
    assert path is not None
    return path


def test_it_is_made_once(jar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made()
    monkeypatch.setattr(classes, "_make", lambda _path: pytest.fail("made again"))

    assert made() == first


def test_jars_installed_anew_at_the_same_place_get_another_and_the_old_one_goes(jar: Path) -> None:
    first = made()
    os.utime(jar, (0, 0))
    second = made()

    assert second != first
    assert not first.exists()


def test_another_checkout_s_is_left_for_a_week(
    jar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made()
    (tmp_path / "others").mkdir()
    monkeypatch.setenv("TIDEMILL_JARS", str(tmp_path / "others"))

    theirs = made()
    assert first.exists()

    os.utime(first, (0, time.time() - 8 * 86_400))
    theirs.unlink()
    assert made() == theirs
    assert not first.exists()
