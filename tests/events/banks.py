"""What tests of event stores share: a project with the bank of ``jobs/bank.py``, and runs of it in the tests' own session."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.bank_check import Checked, check_store, given
from jobs.bank_fees import fee
from tidemill.config import load_project
from tidemill.engine import Engine
from tidemill.protocol import Point, listening

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REPOSITORY = Path(__file__).resolve().parents[2]


class Crash(Exception):
    """A process that ends here."""


def crash_at(point: Point) -> Any:
    def listen(reached: Point) -> None:
        if reached is point:
            raise Crash(point)

    return listening(listen)


def bank_project(folder: Path, *, alone: bool = False) -> Path:
    """A copy of the bank, without its data. ``alone``: its event store, and no transfers."""
    shutil.copytree(REPOSITORY / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "conf/schemas", folder / "conf/schemas")
    (folder / "conf/pipelines").mkdir(parents=True)
    for path in (REPOSITORY / "conf/pipelines").glob("bank.yml" if alone else "bank*.yml"):
        shutil.copy(path, folder / "conf/pipelines")
    if alone:
        store = folder / "conf/pipelines/bank.yml"
        lines = store.read_text().splitlines()
        store.write_text("\n".join(each for each in lines if "data/tables/bank_transfers" not in each))
    return folder


def engine_of(project: Path, spark: SparkSession) -> Engine:
    """The project as it is on disk now."""
    return Engine(load_project(project), spark=spark)


def run(project: Path, spark: SparkSession, *names: str) -> int:
    """Run pipelines until they have read all there is; the batches. Raises what ended one."""
    batches = 0
    for name in names or ("bank",):
        (outcome,) = engine_of(project, spark).run(name)
        if outcome.error is not None:
            raise outcome.error
        batches += outcome.batches
    return batches


def put(project: Path, name: str, *commands: dict[str, Any]) -> None:
    folder = project / "data/bank/commands"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in commands))
    # Files are read by age: the order of arrival.
    os.utime(path, (1_700_000_000 + int(name),) * 2)


def command(number: str, kind: str, subject: str | None, minute: int, **data: Any) -> dict[str, Any]:
    at = datetime(2024, 5, 1, 8, minute, tzinfo=UTC).isoformat()
    return {"id": number, "type": kind, "subject": subject, "time": at, "data": data}


def checked(project: Path) -> Checked:
    """The store against the bank of dictionaries."""
    saga = (project / "conf/pipelines/bank_transfers.yml").exists()
    commands = [each for each in given(project / "data/bank/commands") if each["time"]]
    return check_store(project / "data/tables", commands, fee, saga=saga)
