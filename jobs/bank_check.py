"""Checks the bank's tables with a bank of dictionaries, written without tidemill and without the bank's own code.

Which of two commands comes first is a fact, which the store alone knows. Given that order, all else is calculated here: what
becomes of each command, what transfers ask for in turn, and what the projections must hold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

Command = Mapping[str, Any]
_AMOUNTS = {"Deposit", "Withdraw", "Debit", "Credit", "Refund"}


@dataclass
class Book:
    """A bank. `decide` gives what becomes of a command: the name and the data of an event, or None."""

    fee: Callable[[int], int]
    balances: dict[str, int] = field(default_factory=dict)
    transfers: dict[str, str] = field(default_factory=dict)

    def decide(self, command: Command) -> tuple[str, dict[str, Any]] | None:
        """Give the event of a command, and book it."""
        kind, _, what = str(command["type"]).partition(".")
        subject, data = command["subject"], command["data"]
        if not subject or (what in _AMOUNTS | {"Start"} and data.get("amount", 0) <= 0):
            return None
        if kind == "account" and what in _AMOUNTS | {"Open"}:
            return self._account(subject, what, data)
        return self._transfer(subject, what, data) if kind == "transfer" else None

    def _account(self, name: str, what: str, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        if what == "Open":
            if name in self.balances:
                return None
            self.balances[name] = 0
            return "Opened", {"owner": data["owner"], "overdraft": 0}
        if name not in self.balances:
            return None
        amount = data["amount"]
        charged = self.fee(amount) if what == "Withdraw" else 0
        after = self.balances[name] + (-amount - charged if what in {"Withdraw", "Debit"} else amount)
        if after < 0:
            return None
        self.balances[name] = after
        fees = {"fee": charged} if what == "Withdraw" else {}
        names = {"Deposit": "Deposited", "Withdraw": "Withdrawn", "Refund": "Refunded"}
        return names.get(what, f"{what}ed"), {**data, **fees, "balance": after}

    def _transfer(self, name: str, what: str, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        stage = self.transfers.get(name, "new")
        if what == "Start":
            if stage != "new" or data["sender"] == data["receiver"]:
                return None
            self.transfers[name] = "started"
            return "Started", dict(data)
        if stage != "started" or what not in {"Complete", "Fail"}:
            return None
        done = {"Complete": "Completed", "Fail": "Failed"}[what]
        self.transfers[name] = done.lower()
        return done, dict(data)


def asks(command: Command, became: tuple[str, dict[str, Any]] | None, reason: str | None) -> list[Command]:
    """Give what a transfer asks for, after what became of a command; `reason`: why nothing did."""
    what, subject, data = str(command["type"]).partition(".")[2], command["subject"], command["data"]
    if became is None:
        if what == "Debit":
            return [_asked(f"{data['transfer']}/fail", "transfer.Fail", data["transfer"], {"reason": reason})]
        if what == "Credit":
            back = {"transfer": data["transfer"], "amount": data["amount"], "reason": reason}
            return [_asked(f"{data['transfer']}/refund", "account.Refund", data["sender"], back)]
        return []
    name, of = became
    if name == "Started":
        debit = {"transfer": subject, "receiver": of["receiver"], "amount": of["amount"]}
        return [_asked(f"{subject}/debit", "account.Debit", of["sender"], debit)]
    if name == "Debited":
        credit = {"transfer": of["transfer"], "sender": subject, "amount": of["amount"]}
        return [_asked(f"{of['transfer']}/credit", "account.Credit", of["receiver"], credit)]
    if name == "Credited":
        return [_asked(f"{of['transfer']}/complete", "transfer.Complete", of["transfer"], {})]
    if name == "Refunded":
        return [_asked(f"{of['transfer']}/fail", "transfer.Fail", of["transfer"], {"reason": of["reason"]})]
    return []


def _asked(command: str, kind: str, subject: str, data: dict[str, Any]) -> Command:
    return {"id": command, "type": kind, "subject": subject, "data": data}


@dataclass
class Checked:
    """What was found: `wrong` says what differs, a line each; empty where nothing does."""

    wrong: list[str]
    commands: int
    events: int
    rejections: int
    completed: int
    failed: int
    money: int
    entries: list[dict[str, Any]]
    """What statements must hold."""


def check_store(
    tables: Path, given: Iterable[Command], fee: Callable[[int], int], *, saga: bool = True
) -> Checked:
    """Compare the event store and its table of rejections with what the commands of files must have become.

    Without `saga`, nobody carries transfers out.
    """
    events = sorted(rows(tables / "bank"), key=lambda row: int(row["position"]))
    refused = {row["id"]: row for row in rows(tables / "bank_rejections")}
    wrong = _laws(events, list(rows(tables / "bank_rejections")))
    known: dict[str, Command] = {}
    for each in given:
        known.setdefault(each["id"], each)
    made = {row["causationid"]: row for row in events}
    order = sorted(
        [
            *((row["position"], row["causationid"]) for row in events),
            *((row["position"], i) for i, row in refused.items()),
        ]
    )
    book, entries = Book(fee), []
    for _, command in order:
        if command not in known:
            wrong.append(f"{command} was decided, and nobody has asked it")
            continue
        became = book.decide(known[command])
        row = made.get(command)
        found = None if row is None else (row["type"].partition(".")[2], json.loads(row["data"]))
        if found != became:
            wrong.append(f"{command}: {found} in the store, {became} by the book")
        if row is not None and row["aggregate"] == "account" and found is not None and found[0] != "Opened":
            entries.append(_entry(row, *found))
        reason = refused[command]["reason"] if command in refused else None
        for each in asks(known[command], became, reason) if saga else ():
            known.setdefault(each["id"], each)
    wrong += [f"{each} has no outcome" for each in known.keys() - {command for _, command in order}]
    stages = Counter(book.transfers.values())
    wrong += [
        f"{name} is under way for ever"
        for name, stage in book.transfers.items()
        if saga and stage == "started"
    ]
    moved = sum(e["amount"] - e["fee"] for e in entries)
    if moved != sum(book.balances.values()):
        wrong.append(f"accounts hold {sum(book.balances.values())}, and entries make {moved}")
    return Checked(
        wrong, len(known), len(events), len(refused), stages["completed"], stages["failed"], moved, entries
    )


def _laws(events: list[dict[str, Any]], refused: list[dict[str, Any]]) -> list[str]:
    """Give what is wrong with versions, positions, times and ids, whatever the bank is."""
    wrong = []
    ids = Counter([*(row["causationid"] for row in events), *(row["id"] for row in refused)])
    wrong += [f"{name} has {count} outcomes" for name, count in ids.items() if count > 1]
    positions = [row["position"] for row in (*events, *refused)]
    if len(set(positions)) != len(positions) or None in positions:
        wrong.append("positions are not unique")
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for row in events:
        before = last.get((row["aggregate"], row["subject"]))
        if row["version"] != (before["version"] if before else 0) + 1:
            wrong.append(f"{row['id']} follows version {before['version'] if before else 0}")
        if before and row["time"] < before["time"]:
            wrong.append(f"{row['id']} goes back in time")
        last[row["aggregate"], row["subject"]] = row
    return wrong


def _entry(row: Mapping[str, Any], kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "account": row["subject"],
        "entry": row["version"],
        "time": row["time"],
        "kind": kind,
        "amount": -data["amount"] if kind in {"Withdrawn", "Debited"} else data["amount"],
        "fee": data.get("fee", 0),
        "balance": data["balance"],
        "transfer": data.get("transfer"),
    }


def check_projections(
    tables: Path, entries: Iterable[Mapping[str, Any]], due: Callable[[int], int]
) -> list[str]:
    """Compare statements, balances, totals and fees with the entries; `due`: the rule that fees are judged by."""
    entries = list(entries)
    days: dict[tuple[str, Any], Mapping[str, Any]] = {}
    sums: dict[tuple[Any, str], list[int]] = {}
    for each in sorted(entries, key=lambda row: int(row["entry"])):
        day = each["time"].date()
        days[each["account"], day] = each
        total = sums.setdefault((day, each["kind"]), [0, 0, 0])
        for i, value in enumerate((1, abs(each["amount"]), each["fee"])):
            total[i] += value
    taken = [each for each in entries if each["kind"] == "Withdrawn"]
    wanted: dict[str, list[tuple[Any, ...]]] = {
        "statements": [tuple(each.values()) for each in entries],
        "balances": [(e["account"], e["entry"], e["time"], e["balance"]) for e in days.values()],
        "totals": [(day, kind, *total) for (day, kind), total in sums.items()],
        "fees": [
            (
                e["account"],
                e["entry"],
                -e["amount"],
                e["fee"],
                due(-e["amount"]),
                e["fee"] - due(-e["amount"]),
            )
            for e in taken
        ],
    }
    columns = {
        "statements": "account entry time kind amount fee balance transfer",
        "balances": "account entry time balance",
        "totals": "event_date kind entries amount fees",
        "fees": "account entry amount charged due owed",
    }
    wrong = []
    for name, expected in wanted.items():
        names = columns[name].split()
        found = Counter(tuple(row[each] for each in names) for row in rows(tables / f"bank_{name}"))
        missing, extra = Counter(expected) - found, found - Counter(expected)
        wrong += [f"{name} lacks {row}" for row in list(missing)[:5]]
        wrong += [f"{name} has {row}" for row in list(extra)[:5]]
    return wrong


def rows(table: Path) -> list[dict[str, Any]]:
    """Give every row of a table; none where there is none."""
    if not (table / "_delta_log").is_dir():
        return []
    found: pa.Table = DeltaTable(str(table)).to_pyarrow_table()
    return list(found.to_pylist())


def given(folder: Path) -> list[Command]:
    """Give the commands of files, in their order."""
    lines = (line for path in sorted(folder.glob("*.json")) for line in path.read_text().splitlines())
    return [json.loads(line) for line in lines]
