"""The notebooks run from top to bottom in a fresh copy of the project."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.scenarios.processes import REPOSITORY, flights_project
from tidemill.testing.processes import short_lived_environment

_NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.mark.spark
@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = flights_project(tmp_path)
    (project / "notebooks").mkdir()
    monkeypatch.setenv("TIDEMILL_DRIVER_MEMORY", "700m")
    for name, value in short_lived_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TIDEMILL_JARS", os.environ.get("TIDEMILL_JARS", str(REPOSITORY / ".jars")))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(project / "notebooks")}}
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output.output_type == "error"]
    assert any("text/html" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs_and_defines_nothing(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert not any(line.startswith(("def ", "class ")) for line in cell.source.splitlines())
