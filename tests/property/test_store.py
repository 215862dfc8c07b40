"""An event store among changes of code, repeated commands and lost checkpoints holds what was decided; its projection keeps the law."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings

from tests.property import oracle
from tests.property.histories import Event, File, History, histories
from tests.property.law import World
from tests.property.test_law import LAW
from tidemill.config import Project, parse_pipeline
from tidemill.engine import Engine
from tidemill.ledger.judge import State

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HERE = "tests.property.deciding"
Fact = tuple[str, str, int, int, str]
"""The command's id, the subject, the version (0: refused), the time, the type or the reason."""


class Books(World):
    """A store over the folder of events, and a projection of it, to which people do what they do."""

    def __init__(self, root: Path, spark: SparkSession, per_batch: int) -> None:
        self.facts: list[Fact] = []
        self._known: set[str] = set()
        self._totals: Counter[str] = Counter()
        self._stands: dict[str, tuple[int, int]] = {}
        super().__init__(root, spark, ("view",), per_batch)

    def use(self, code: str) -> None:
        self.code = code
        schema = "id STRING, key STRING, value BIGINT, at TIMESTAMP"
        files = {
            "path": "in/events",
            "format": "json",
            "schema": schema,
            "max_files_per_batch": self._per_batch,
        }
        common = {
            "interval": "day",
            "trigger": {"available_now": True},
            "spark": {"spark.sql.shuffle.partitions": "1"},
        }
        store = {
            "name": "store",
            "source": {"files": files},
            "event_time": {"column": "at"},
            "transform": [f"{HERE}:asked", {"decide": f"{HERE}:{code.upper()}"}],
            "sink": {"delta": {"path": "tables/store"}},
            **common,
        }
        view = {
            "name": "view",
            "source": {"delta": {"path": "tables/store"}},
            "event_time": {"column": "time"},
            "transform": f"{HERE}:shown_{code}",
            "sink": {"delta": {"path": "tables/view"}},
            **common,
        }
        made = {each["name"]: parse_pipeline(each, self.root) for each in (store, view)}
        self.engine = Engine(Project(str(self.root), made), spark=self._spark)

    def arrive(self, *files: File) -> None:
        self._add(*files)
        for name in ("store", "view"):
            for outcome in self.engine.run(name):
                if outcome.error is not None:
                    raise outcome.error

    def decide(self, files: list[File]) -> None:
        """What today's code makes of files that the store reads now."""
        mine = [file for file in files if file.input == "events"]
        for at in range(0, len(mine), self._per_batch):
            batch = [
                e for file in mine[at : at + self._per_batch] for e in file.lines if isinstance(e, Event)
            ]
            for event in sorted(batch, key=lambda e: (e.at, e.id)):
                if event.id not in self._known:
                    self._known.add(event.id)
                    self.facts += self._decided(event)

    def _decided(self, event: Event) -> Iterator[Fact]:
        if not oracle.kept(self.code, [event]):
            yield event.id, event.key, 0, event.at, f"not by {self.code}"
            return
        version, last = self._stands.get(event.key, (0, event.at))
        self._totals[event.key] += event.value
        for kind in ("book.Noted", *(["book.Odd"] if event.value % 2 else [])):
            version, last = version + 1, max(last, event.at)
            self._stands[event.key] = version, last
            yield event.id, event.key, version, last, kind

    def check_store(self) -> None:
        """Every fact is there, once, and no other; levels are sums; nothing is clean, stale or dirty."""
        held: list[Fact] = []
        totals: Counter[str] = Counter()
        for row in sorted(self._stored("store"), key=lambda row: int(row["position"])):
            held.append((row["causationid"], row["subject"], row["version"], _micros(row), row["type"]))
            data = json.loads(row["data"])
            totals[row["subject"]] += data.get("value", 0)
            assert data.get("total", totals[row["subject"]]) == totals[row["subject"]], row
        held += [
            (r["id"], r["subject"], 0, _micros(r), r["reason"]) for r in self._stored("store_rejections")
        ]
        assert sorted(held) == sorted(self.facts)
        assert set(self.states("store").values()) <= {State.RECORDED}

    def _stored(self, name: str) -> list[dict[str, Any]]:
        path = self.root / "tables" / name
        return DeltaTable(str(path)).to_pyarrow_table().to_pylist() if path.exists() else []

    def wanted(self, kind: str) -> oracle.Table:
        assert kind == "view"
        found: oracle.Table = defaultdict(Counter)
        factor = 2 if self.code == "a" else 3
        for name, key, version, at, _ in self.facts:
            if version and (self.code == "b" or version % 2):
                row = (f"book/{key}/{version}", name, version * factor, at)
                found[oracle.label(at, "%Y-%m-%d")][row] += 1
        return dict(found)


def _micros(row: dict[str, Any]) -> int:
    return round(row["time"].timestamp() * 1_000_000)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(4 * 3600)
@settings(LAW, max_examples=max(1, LAW.max_examples // 3))
@given(history=histories())
def test_what_was_decided_stays_and_what_is_made_of_it_is_what_the_oracle_says(
    spark: SparkSession, history: History
):
    with tempfile.TemporaryDirectory(prefix="tidemill-store-") as folder:
        _live_through(history, Path(folder), spark)


def _live_through(history: History, root: Path, spark: SparkSession) -> None:
    world = Books(root, spark, history.files_per_batch)
    for number, each in enumerate(history.rounds):
        world.use(each.code)
        files = list(each.files)
        if number and (history.seed or 0) % (number + 2) == 0:
            # All files are read again, in other batches; the commands are known.
            shutil.rmtree(root / "tables/store/_tidemill/checkpoint")
            files = [*world.read, *files]
        world.arrive(*each.files)
        world.decide(files)
        world.check_store()
        world.check(f"round {number}, live")
        for deed in each.deeds:
            world.do(deed)
            world.check(f"round {number}, {deed}")
            world.check_store()
    world.do("repair")
    world.check("repaired")
    world.check_repaired("repaired")
    world.check_whole("repaired")
