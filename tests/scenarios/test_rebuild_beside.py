"""A read model is rebuilt beside the live stream that merges into it, in another process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios import accounts
from tests.scenarios.accounts import Event, arrive, events, held, wanted
from tests.scenarios.processes import table_version
from tidemill import Engine
from tidemill.execution.hold import hold
from tidemill.ledger.facts import LiveBatch, Swap
from tidemill.ledger.judge import State
from tidemill.ledger.log import commits_after
from tidemill.protocol import Point, listening
from tidemill.testing import Process

pytestmark = pytest.mark.spark

FILES, PER_FILE = 12, 20


@pytest.mark.nightly  # what it shows of one race at a time, test_followed_up.py shows in one process
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rebuild_gets_its_turn_and_loses_nothing(tmp_path: Path, spark: SparkSession):
    root, table = accounts.project(tmp_path), tmp_path / "tables/balances"
    some = events(FILES * PER_FILE, accounts=40)
    parts = [some[n : n + PER_FILE] for n in range(0, len(some), PER_FILE)]
    arrive(root, parts[0])
    live = Process(root, "stream", "balances", every_ms=200)
    live.wait_until(lambda: table_version(table) >= 1, "the first batch")
    accounts.code(root, factor=10)
    engine = Engine(root, spark=spark)

    # Once for certain: a batch comes between what the rebuild staged and its swap.
    certain = iter([True])

    def lose(point: Point) -> None:
        if point is Point.CHUNK_STAGED and next(certain, False):
            before = table_version(table)
            arrive(root, parts[1])
            live.wait_until(lambda: table_version(table) > before, "a batch beside the rebuild")

    said: list[str] = []
    engine._say = said.append
    with listening(lose):
        (lost,) = engine.rebuild("balances").chunks
    assert (lost.outcome, lost.retries) == ("swapped", 1)
    assert "chunk 1/1: lost a race; planning again all" in said
    # What it read of the second part is by today's code, as the rest; the stream then merges by the code that it began with.
    assert held(table) == wanted([*parts[0], *parts[1]], factor=10)

    # And as it comes: the stream is never idle, and each rebuild ends.
    feeding = threading.Thread(target=_feed, args=(root, parts[2:]))
    feeding.start()
    rebuilds = []
    while feeding.is_alive():
        rebuilds += engine.rebuild("balances").chunks
    feeding.join()
    assert {chunk.outcome for chunk in rebuilds} <= {"swapped", "equal"}
    assert max(chunk.retries for chunk in rebuilds) < 5
    live.wait_until(lambda: engine.status("balances")[0].input_rows == len(some), "the last part")
    assert {name: at for name, (_, at) in held(table).items()} == {
        name: at for name, (_, at) in wanted(some).items()
    }
    live.stop()

    engine.rebuild("balances")
    assert held(table) == wanted(some, factor=10)
    assert engine.coverage("balances").in_state(State.CLEAN) == ("all",)
    facts = [each.fact for each in commits_after(str(table), -1, engine.project.pipeline("balances").grain)]
    assert sum(isinstance(fact, Swap) for fact in facts) == len(rebuilds) + 2
    read = sum(fact.input_rows for fact in facts if isinstance(fact, LiveBatch))
    assert read == len(some)


def _feed(root: Path, parts: list[list[Event]]) -> None:
    pause = threading.Event()
    for part in parts:
        arrive(root, part)
        pause.wait(0.5)


@pytest.mark.timeout(300)
def test_a_stream_waits_as_long_as_it_is_asked_and_no_longer(tmp_path: Path):
    root, table = accounts.project(tmp_path), tmp_path / "tables/balances"
    some = events(40, seed=9)
    arrive(root, some[:10])
    live = Process(root, "stream", "balances", every_ms=100)
    live.wait_until(lambda: table_version(table) >= 1, "the first batch")
    pipeline = Engine(root).project.pipeline("balances")

    with hold(pipeline, "a-run"):
        arrive(root, some[10:20])
        offsets = tmp_path / "tables/balances/_tidemill/checkpoint/offsets"
        live.wait_until((offsets / "1").exists, "a batch that begins")
        threading.Event().wait(1.5)
        assert held(table) == wanted(some[:10])
    live.wait_until(lambda: held(table) == wanted(some[:20]), "the batch after the hold")

    # Asked to stop while it waits, it stops; the batch is the next start's.
    with hold(pipeline, "a-run"):
        arrive(root, some[20:])
        live.wait_until((offsets / "2").exists, "a batch that begins")
        live.stop()
    assert held(table) == wanted(some[:20])
