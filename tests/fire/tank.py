"""The event store that the fire burns: readings become commands, and what must be in it by the readings alone.

A reading of less than 8 fills its sensor's tank, with a second event where it is odd; any other is refused. By how much it fills is
a matter of the code of then, which cannot be told afterwards: that levels are sums can.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from tidemill.testing.source import Event

STORE = "tank"
PIPELINE = """
event_time: {column: at}
interval: day
transform: ["mill_code:asked", {decide: "mill_domain:TANKS"}]
sink: {delta: {path: data/tank}}
"""
DOMAIN = """
from tidemill.eventsourcing import Command, Decider, Domain, Event, Rejected, State

FACTOR = {factor}


class Fill(Command):
    v: int


class Filled(Event):
    by: int
    level: int


class Odd(Event):
    pass


class Level(State):
    level: int = 0


class Tank(Decider[Level]):
    name, commands, events = "tank", (Fill,), (Filled, Odd)

    def initial(self):
        return Level()

    def decide(self, state, command):
        if command.v >= 8:
            return Rejected("too much at once")
        by = command.v * FACTOR
        return [Filled(by=by, level=state.level + by), *([Odd()] if command.v % 2 else [])]

    def evolve(self, state, event):
        return Level(level=event.level) if isinstance(event, Filled) else state


TANKS = Domain("/tanks", Tank())
"""
ASKED = """

def asked(events):
    data = F.to_json(F.struct("v"))
    return events.select(
        F.col("id").cast("string").alias("id"), F.lit("tank.Fill").alias("type"), F.col("sensor").alias("subject"),
        F.col("at").alias("time"), data.alias("data"),
    )
"""


def wrong(folder: Path, events: Iterable[Event], *, whole: bool) -> list[str]:
    """What is wrong with the store in a folder when these readings were read; no more than one outcome each, if ``whole``
    exactly one: rejections of the last batch may be on their way.
    """
    found = []
    stored = sorted(_rows(folder / "data/tank"), key=lambda row: int(row["position"]))
    refused = _rows(folder / "data/tank_rejections")
    positions = [row["position"] for row in (*stored, *refused)]
    if len(set(positions)) != len(positions):
        found.append("positions are not unique")
    levels: dict[str, int] = defaultdict(int)
    versions: Counter[str] = Counter()
    for row in stored:
        versions[row["subject"]] += 1
        if row["version"] != versions[row["subject"]]:
            found.append(f"{row['id']} is number {versions[row['subject']]}")
        if row["type"] == "tank.Filled":
            data = json.loads(row["data"])
            levels[row["subject"]] += data["by"]
            if data["level"] != levels[row["subject"]]:
                found.append(f"{row['id']} makes {levels[row['subject']]}, and says {data['level']}")
    have = Counter((row["causationid"], row["type"].partition(".")[2]) for row in stored)
    have.update((row["id"], "refused") for row in refused)
    want: Counter[tuple[str, str]] = Counter()
    for each in {each["id"]: each for each in events}.values():
        name, odd = str(each["id"]), each["v"] % 2
        want.update(
            [(name, "refused")] if each["v"] >= 8 else [(name, "Filled"), *([(name, "Odd")] if odd else [])]
        )
    missing = want - have
    found += [f"{key} is there {count} times too often" for key, count in (have - want).items()]
    found += [f"{key} is not there" for key in missing if whole or key[1] != "refused"]
    return found


def _rows(table: Path) -> list[dict[str, Any]]:
    if not (table / "_delta_log").is_dir():
        return []
    return list(DeltaTable(str(table)).to_pyarrow_table().to_pylist())
