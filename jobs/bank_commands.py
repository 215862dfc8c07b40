"""Commands for the bank, the same each time: what customers ask, twice now and then, late, too much, or not in order."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

BEGIN = datetime(2024, 5, 1, 8, tzinfo=UTC)
NOBODY = "nobody"
"""An account that is never opened: transfers to it come back."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: ``commands``, twice the same counted twice, in so many ``files``."""

    files: int
    commands: int


def commands(*, accounts: int, files: int, each: int, seed: int = 7) -> Iterator[list[dict[str, Any]]]:
    """Give the commands of each file. About one in thirty comes again, one in twenty is late, one in fifty is nonsense."""
    chance = random.Random(seed)  # noqa: S311  # the same each time is what is wanted
    names = [f"a{number}" for number in range(accounts)]
    made: list[dict[str, Any]] = []
    for number in range(files):
        at = BEGIN + timedelta(hours=3 * number)
        first = [_open(name, at) for name in names[number::files]]
        now = first + [_any(chance, names, f"{number}-{i}", at) for i in range(each)]
        again = chance.sample(made, min(len(made), each // 30))
        made += now
        yield [*now, *again]


def write_commands(folder: Path, *, accounts: int, files: int, each: int) -> Written:
    """Write the commands, a file a batch; each is there whole or not at all, a second younger than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, some in enumerate(commands(accounts=accounts, files=files, each=each)):
        count += len(some)
        hidden = folder / f".{number:05d}"
        hidden.write_text("".join(f"{json.dumps(command)}\n" for command in some))
        os.utime(hidden, (1_700_000_000 + number, 1_700_000_000 + number))
        hidden.rename(folder / f"{number:05d}.json")
    return Written(files, count)


def _open(name: str, at: datetime) -> dict[str, Any]:
    return _command(f"open-{name}", "account.Open", name, at, {"owner": f"owner of {name}"})


def _any(chance: random.Random, names: list[str], number: str, at: datetime) -> dict[str, Any]:
    when = at + timedelta(seconds=chance.randrange(1, 3 * 3600))
    if chance.random() < 0.05:
        when -= timedelta(hours=chance.randrange(3, 30))
    name, kind = chance.choice(names), chance.random()
    if kind < 0.02:
        return chance.choice(
            [
                _command(f"n{number}", "account.Close", name, when, {}),
                _command(f"n{number}", "account.Deposit", name, when, {"amount": -1}),
                _command(f"n{number}", "account.Deposit", None, when, {"amount": 1}),
            ]
        )
    if kind < 0.5:
        return _command(
            f"d{number}", "account.Deposit", name, when, {"amount": chance.randrange(1000, 90_000)}
        )
    if kind < 0.75:
        amount = (
            chance.randrange(1000, 60_000) if chance.random() < 0.7 else chance.randrange(100_000, 200_000)
        )
        return _command(f"w{number}", "account.Withdraw", name, when, {"amount": amount})
    receiver = NOBODY if chance.random() < 0.1 else chance.choice(names)
    data = {"sender": name, "receiver": receiver, "amount": chance.randrange(1000, 80_000)}
    return _command(f"t{number}", "transfer.Start", f"t{number}", when, data)


def _command(
    command: str, kind: str, subject: str | None, at: datetime, data: dict[str, Any]
) -> dict[str, Any]:
    return {"id": command, "type": kind, "subject": subject, "time": at.isoformat(), "data": data}
