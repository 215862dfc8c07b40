"""Decisions of several events each; and an ``evolve`` that comes to mean something else when events are published."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.bank_check import rows
from tests.events.banks import crash_at, engine_of, run
from tidemill.ledger.judge import State
from tidemill.protocol import Point

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

DOMAIN = """
from tidemill.eventsourcing import Command, Decider, Domain, Event, Rejected, State


class Pour(Command):
    drops: list[int]


class Dropped(Event):
    size: int


class Tank(State):
    level: int = 0


class Filling(Decider[Tank]):
    name, commands, events = "tank", (Pour,), (Dropped,)

    def initial(self):
        return Tank()

    def decide(self, state, command):
        if state.level + sum(command.drops) > 100:
            return Rejected(f"the tank holds {state.level} of 100")
        return [Dropped(size=each) for each in command.drops]

    def evolve(self, state, event):
        return Tank(level=state.level + FACTOR * event.size)


def wanted(commands):
    return commands.where("id <> 'x'")


FACTOR = 1
TANKS = Domain("/tanks", Filling())
"""
PIPELINE = """
name: tanks
source:
  files: {path: in, format: json, schema: "id STRING, type STRING, subject STRING, time TIMESTAMP, data STRING"}
event_time: {column: time}
interval: all
transform: ["tanks:wanted", {decide: "tanks:TANKS"}]
sink: {delta: {path: out/tanks}}
trigger: {available_now: true}
"""


def put(project: Path, number: int, *commands: tuple[str, str, list[int]]) -> None:
    lines = [
        {
            "id": name,
            "type": "tank.Pour",
            "subject": tank,
            "time": f"2024-05-01T08:{i:02}:00Z",
            "data": {"drops": drops},
        }
        for i, (name, tank, drops) in enumerate(commands)
    ]
    (project / "in").mkdir(exist_ok=True)
    (project / f"in/{number}.json").write_text("".join(f"{json.dumps(each)}\n" for each in lines))


def sizes(project: Path) -> dict[str, list[int]]:
    """What is in each tank, by version; versions have no gap, positions follow them, each id is there once."""
    found: dict[str, list[int]] = defaultdict(list)
    events = sorted(rows(project / "out/tanks"), key=lambda row: int(row["position"]))
    for row in events:
        assert (row["version"], row["id"]) == (
            len(found[row["subject"]]) + 1,
            f"tank/{row['subject']}/{row['version']}",
        )
        found[row["subject"]].append(json.loads(row["data"])["size"])
    assert len({row["position"] for row in events}) == len(events)
    return dict(found)


def test_a_decision_is_all_of_its_events_and_what_they_mean_may_change(spark: SparkSession, tmp_path: Path):
    (tmp_path / "conf/pipelines").mkdir(parents=True)
    (tmp_path / "conf/pipelines/tanks.yml").write_text(PIPELINE)
    code = tmp_path / "tanks.py"
    code.write_text(DOMAIN)
    first: list[Any] = [
        ("1", "a", [10, 20, 5]),
        ("2", "b", [1]),
        ("3", "a", [60]),
        ("4", "a", [6]),
        ("5", "b", []),
    ]
    put(tmp_path, 1, *first, ("x", "b", [2]))
    with crash_at(Point.COMMITTED), pytest.raises(Exception, match=r"Crash|committed"):
        run(tmp_path, spark, "tanks")
    assert sizes(tmp_path) == {"a": [10, 20, 5, 60], "b": [1]}
    # A drop counts twice from now on: tank a is over its brim, and tank b at 2.
    # And a command that was left out is let through: Spark makes that batch again, which decides nothing any more.
    code.write_text(DOMAIN.replace("FACTOR = 1", "FACTOR = 2").replace("id <> 'x'", "id <> 'y'"))
    put(tmp_path, 2, *first, ("6", "a", [1]), ("7", "b", [30, 18]), ("8", "b", [1, 2]))
    run(tmp_path, spark, "tanks")
    assert sizes(tmp_path) == {"a": [10, 20, 5, 60], "b": [1, 30, 18]}
    refused = {row["id"]: (row["version"], row["reason"]) for row in rows(tmp_path / "out/tanks_rejections")}
    assert refused == {
        "4": (4, "the tank holds 95 of 100"),
        "5": (1, "nothing to do"),
        "6": (4, "the tank holds 190 of 100"),
        "8": (3, "the tank holds 98 of 100"),
    }
    engine = engine_of(tmp_path, spark)
    assert [engine.aggregate("tanks", f"tank/{each}").state for each in "ab"] == [
        {"level": 190},
        {"level": 98},
    ]
    # What was decided stays recorded; what today's code would have made of it, a dry replay says.
    assert [(row.state, row.rows) for row in engine.coverage("tanks").rows] == [(State.RECORDED, 7)]
    found = engine.redecide("tanks")
    assert found.changes == {"same": 5, "now refused": 1, "now accepted": 2}
    assert [(each.command, each.change) for each in found.differences] == [
        ("3", "now refused"),
        ("4", "now accepted"),
        ("6", "now accepted"),
    ]
    assert found.differences[0].then == ({"type": "tank.Dropped", "data": {"size": 60}},)
