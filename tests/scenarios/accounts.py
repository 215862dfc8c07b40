"""A log of events of accounts, a read model of their balances, and what the model must hold, by the events alone."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

START = datetime(2024, 5, 1, tzinfo=UTC)
CODE = "def balances(events):\n    return events.where({wanted!r}).selectExpr('account', 'balance * {factor} AS balance', 'position')\n"
PIPELINE = """
name: balances
source: {delta: {path: log, max_files_per_batch: 1}}
event_time: {column: at}
interval: all
transform: account_code:balances
gate: {max_removed: null}
sink: {delta: {path: tables/balances, mode: upsert, key: [account], order_by: [position]}}
"""


@dataclass(frozen=True, slots=True)
class Event:
    account: str
    balance: int
    position: int
    at: datetime


def events(number: int, *, accounts: int = 7, seed: int = 1) -> list[Event]:
    """Events in the order of their positions; they happened in another one."""
    chance = random.Random(seed)
    return [
        Event(
            f"a-{chance.randrange(accounts)}",
            chance.randrange(100),
            n,
            START + timedelta(minutes=chance.randrange(9000)),
        )
        for n in range(number)
    ]


def project(root: Path, *, factor: int = 1, wanted: str = "true", text: str = PIPELINE) -> Path:
    """The project, with one version of its code."""
    (root / "conf/pipelines").mkdir(parents=True, exist_ok=True)
    (root / "conf/pipelines/balances.yml").write_text(text)
    code(root, factor=factor, wanted=wanted)
    return root


def code(root: Path, *, factor: int = 1, wanted: str = "true") -> None:
    (root / "account_code.py").write_text(CODE.format(factor=factor, wanted=wanted))


def arrive(root: Path, some: Iterable[Event]) -> None:
    """One commit of the log."""
    rows = list(some)
    columns: dict[str, Any] = {
        "account": [each.account for each in rows],
        "balance": pa.array([each.balance for each in rows], pa.int64()),
        "position": pa.array([each.position for each in rows], pa.int64()),
        "at": pa.array([each.at for each in rows], pa.timestamp("us", "UTC")),
    }
    write_deltalake(root / "log", pa.table(columns), mode="append")


def wanted(some: Iterable[Event], *, factor: int = 1) -> dict[str, tuple[int, int]]:
    """The last event of each account: balance and position."""
    newest: dict[str, Event] = {}
    for event in some:
        if event.account not in newest or event.position > newest[event.account].position:
            newest[event.account] = event
    return {name: (each.balance * factor, each.position) for name, each in newest.items()}


def held(path: Path, version: int | None = None) -> dict[str, tuple[int, int]]:
    """What a model holds; a key that it has twice is an error."""
    rows = DeltaTable(str(path), version=version).to_pyarrow_table().to_pylist()
    found = {row["account"]: (row["balance"], row["position"]) for row in rows}
    assert len(found) == len(rows), rows
    return found
