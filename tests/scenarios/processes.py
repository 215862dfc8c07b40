"""What scenarios with processes share: the flights project, and what its tables hold."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

REPOSITORY = Path(__file__).resolve().parents[2]


def flights_project(folder: Path) -> Path:
    """A copy of the repository's own project, without its data."""
    for part in ("conf", "jobs"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def table_version(path: Path) -> int:
    """The newest version of a table by its log; -1 before there is one."""
    return max((int(p.stem) for p in (path / "_delta_log").glob("*.json") if p.stem.isdigit()), default=-1)


def rows(path: Path) -> list[dict[str, Any]]:
    """Every row of a table."""
    return list(DeltaTable(str(path)).to_pyarrow_table().to_pylist())
