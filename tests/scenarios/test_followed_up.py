"""A live batch comes between what a rebuild of a read model stages and its swap: what came is followed up, or all begins anew."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from tests.scenarios import accounts
from tests.scenarios.accounts import Event, events, held, wanted
from tidemill import Engine
from tidemill.execution import tries
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.protocol import Point, listening

pytestmark = pytest.mark.spark

_FILES = accounts.PIPELINE.replace(
    "source: {delta: {path: log, max_files_per_batch: 1}}",
    "source: {files: {path: in, format: json, schema: 'account STRING, balance BIGINT, position BIGINT, at TIMESTAMP'}}",
)
_RULES = """
quality: {suite: {name: sane, expectations: [
  {type: expect_column_values_to_be_between, kwargs: {column: balance, min_value: 10}, meta: {action: quarantine}}]}}
"""


def arrive(root: Path, some: list[Event]) -> None:
    """One file of the log, with a line in it that is no event."""
    lines = [
        json.dumps({**{n: getattr(e, n) for n in ("account", "balance", "position")}, "at": e.at.isoformat()})
        for e in some
    ]
    folder = root / "in"
    folder.mkdir(exist_ok=True)
    hidden = folder / f".{some[0].position:06}"
    hidden.write_text("\n".join([*lines, "no event"]))
    hidden.rename(folder / f"{some[0].position:06}.json")


class Beside:
    """The stream of a pipeline takes a file in, when a rebuild has staged, as many times as there are files."""

    def __init__(self, root: Path, spark: SparkSession, parts: list[list[Event]]) -> None:
        self.root, self.parts, self.engine = root, parts, Engine(root, spark=spark)
        self.held: list[bool] = []

    def __call__(self, point: Point) -> None:
        if point is not Point.CHUNK_STAGED:
            return
        self.held.append((self.root / "tables/balances/_tidemill/hold.lease").exists())
        if self.parts:
            arrive(self.root, self.parts.pop(0))
            run(self.engine)


def run(engine: Engine) -> None:
    (outcome,) = engine.run("balances", trigger=Trigger(available_now=True))
    if outcome.error is not None:
        raise outcome.error


def test_what_came_is_followed_up(tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch):
    root, some = accounts.project(tmp_path, text=_FILES), events(30, seed=11)
    arrive(root, some[:20])
    engine = Engine(root, spark=spark)
    run(engine)
    accounts.code(root, factor=10, wanted="account <> 'a-3'")
    engine = Engine(root, spark=spark)
    followed: list[int] = []
    really = tries.follow
    monkeypatch.setattr(tries, "follow", lambda *given: followed.append(1) or really(*given))
    beside = Beside(root, spark, [some[20:]])

    with listening(beside):
        (chunk,) = engine.rebuild("balances").chunks

    assert (chunk.outcome, chunk.retries, len(followed)) == ("swapped", 1, 1)
    # The stream was asked to wait at once.
    assert beside.held == [False, True]
    there = [each for each in some if each.account != "a-3"]
    assert held(tmp_path / "tables/balances") == wanted(there, factor=10)
    assert engine.coverage("balances").in_state(State.CLEAN) == ("all",)
    assert engine.verify("balances").holds
    assert not (tmp_path / "tables/balances/_tidemill/hold.lease").exists()
    assert engine.view("balances").coverage.quarantined == 2
    # What was staged and followed up is not left about: of the rebuild, what it published.
    named = {Path(uri).parent for uri in engine_files(tmp_path)}
    assert len(list((tmp_path / "tables/balances").glob("part-*"))) <= 3
    assert all(folder.is_dir() for folder in named)


def engine_files(root: Path) -> list[str]:
    from deltalake import DeltaTable

    return DeltaTable(str(root / "tables/balances")).file_uris()


def test_where_what_is_read_whole_has_changed_it_begins_anew(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
):
    rated = _FILES.replace("source: {files", "sources:\n  events: {files").replace(
        "event_time:", "  rates: {delta: {path: rates}, static: true}\nevent_time:"
    )
    root, some = accounts.project(tmp_path, text=rated), events(30, seed=11)
    (root / "account_code.py").write_text(
        "def balances(events, rates):\n"
        "    return events.crossJoin(rates).selectExpr('account', 'balance * rate AS balance', 'position')\n"
    )
    rate(root, 2)
    arrive(root, some[:20])
    engine = Engine(root, spark=spark)
    run(engine)
    rate(root, 3)
    beside = Beside(root, spark, [some[20:]])
    changing = iter([5])
    really = tries.only_grew
    # It changes after the stream took in what came, and before that is merged into what was staged.
    monkeypatch.setattr(
        tries, "only_grew", lambda *given: [rate(root, each) for each in changing] and really(*given)
    )

    with listening(beside):
        (chunk,) = engine.rebuild("balances").chunks

    assert (chunk.outcome, chunk.retries) == ("swapped", 1)
    assert held(tmp_path / "tables/balances") == wanted(some, factor=5)
    assert engine.verify("balances").holds


def rate(root: Path, factor: int) -> None:
    rates = pa.table({"rate": pa.array([factor], pa.int64())})
    write_deltalake(root / "rates", rates, mode="overwrite")


def test_with_rules_it_begins_anew_and_the_stream_waits_from_the_third_attempt_on(
    tmp_path: Path, spark: SparkSession
):
    root, some = accounts.project(tmp_path, text=_FILES + _RULES), events(40, accounts=25, seed=12)
    arrive(root, some[:20])
    engine = Engine(root, spark=spark)
    run(engine)
    accounts.code(root, factor=2)
    engine = Engine(root, spark=spark)
    beside = Beside(root, spark, [some[20:30], some[30:]])

    with listening(beside):
        (chunk,) = engine.rebuild("balances").chunks

    assert (chunk.outcome, chunk.retries) == ("swapped", 2)
    assert beside.held == [False, False, True]
    good = [each for each in some if each.balance * 2 >= 10]
    assert held(tmp_path / "tables/balances") == wanted(good, factor=2)
    assert engine.verify("balances").holds
    found = engine.query("SELECT record FROM balances_quarantine WHERE interval = 'all'").rows
    assert sorted(json.loads(record)["position"] for (record,) in found) == [
        each.position for each in some if each.balance * 2 < 10
    ]
