"""Read models: one row a key overall, rebuilt in one commit, undone, seen as they were, and replayed elsewhere."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.scenarios import accounts
from tests.scenarios.accounts import START, arrive, events, held, wanted
from tidemill import Engine
from tidemill.errors import CommitConflict, PlanError
from tidemill.execution import replay as replays
from tidemill.ledger.facts import LiveBatch, Swap
from tidemill.ledger.judge import State
from tidemill.ledger.log import commits_after
from tidemill.model import Trigger
from tidemill.planning.selection import Request
from tidemill.sinks.table import LogTable

pytestmark = pytest.mark.spark

NOW = Trigger(available_now=True)


def run(engine: Engine, name: str = "balances") -> None:
    (outcome,) = engine.run(name, trigger=NOW)
    if outcome.error is not None:
        raise outcome.error


def facts(engine: Engine, name: str = "balances") -> list[Any]:
    pipeline = engine.project.pipeline(name)
    return [each.fact for each in commits_after(pipeline.table.path, -1, pipeline.grain)]


def states(engine: Engine) -> dict[str, State]:
    return {row.interval: row.state for row in engine.coverage("balances").rows}


def test_a_model_is_lived_rebuilt_undone_and_seen_as_it_was(tmp_path: Path, spark: SparkSession):
    root, all_events = accounts.project(tmp_path), events(60)
    shuffled = random.Random(5).sample(all_events, 60)
    for start in range(0, 45, 15):
        arrive(root, shuffled[start : start + 15])
    table = tmp_path / "tables/balances"
    engine = Engine(root, spark=spark)
    run(engine)

    # However the log is cut into batches, each key has the row of its greatest position; and nothing is in partitions.
    assert held(table) == wanted(shuffled[:45])
    assert DeltaTable(str(table)).metadata().partition_columns == []
    assert states(engine) == {"all": State.CLEAN}
    assert engine.verify("balances").holds
    equal = engine.rebuild("balances")
    assert [chunk.outcome for chunk in equal.chunks] == ["equal"]

    # New code: stale, until all is made anew in one commit that readers see whole.
    before = engine.query("SELECT count(*) FROM balances").tables[0].version
    accounts.code(root, factor=10, wanted="account <> 'a-3'")
    engine = Engine(root, spark=spark)
    assert states(engine) == {"all": State.STALE}
    done = engine.rebuild("balances")
    others = [each for each in shuffled[:45] if each.account != "a-3"]
    assert held(table) == wanted(others, factor=10)
    assert states(engine) == {"all": State.CLEAN}
    assert engine.verify("balances").holds
    past = engine.query("SELECT account, balance, position FROM balances", at=before)
    assert {name: (balance, at) for name, balance, at in past.rows} == wanted(shuffled[:45])
    assert [sum(isinstance(f, kind) for f in facts(engine)) for kind in (LiveBatch, Swap)] == [3, 2]

    # The stream goes on from where it was, into what was rebuilt.
    arrive(root, shuffled[45:])
    engine.undo(done.run)
    assert (held(table), states(engine)) == (wanted(shuffled[:45]), {"all": State.DIRTY})
    engine.publish(done.run)
    run(engine)
    assert held(table) == wanted([each for each in shuffled if each.account != "a-3"], factor=10)
    assert states(engine) == {"all": State.CLEAN}
    with pytest.raises(CommitConflict):
        engine.undo(done.run)  # the stream has merged into what it would take away
    with pytest.raises(PlanError, match="one interval"):
        engine.backfill("balances", Request(start=START))
    with pytest.raises(PlanError, match="without --probe"):
        engine.verify("balances", probe=True)


def test_a_model_without_a_stream_is_missing_until_it_is_rebuilt_and_dirty_when_its_log_grows(
    tmp_path: Path, spark: SparkSession
):
    root, some = accounts.project(tmp_path), events(30, seed=2)
    arrive(root, some[:20])
    engine = Engine(root, spark=spark)

    assert [str(each) for each in engine.foresee_rebuild("balances").intervals] == ["all"]
    engine.rebuild("balances")
    assert (held(tmp_path / "tables/balances"), states(engine)) == (wanted(some[:20]), {"all": State.CLEAN})
    arrive(root, some[20:])
    assert states(engine) == {"all": State.DIRTY}
    engine.backfill("balances", Request(states=frozenset({State.DIRTY})))
    assert (held(tmp_path / "tables/balances"), states(engine)) == (wanted(some), {"all": State.CLEAN})


def test_a_model_that_appends_is_rebuilt_too(tmp_path: Path, spark: SparkSession):
    sink = "sink: {delta: {path: tables/balances, mode: upsert, key: [account], order_by: [position]}}"
    text = accounts.PIPELINE.replace(sink, "sink: {delta: {path: tables/balances}}")
    root, some = accounts.project(tmp_path, text=text), events(20, seed=3)
    for start in range(0, 20, 2):
        arrive(root, some[start : start + 2])
    engine = Engine(root, spark=spark)
    run(engine)
    assert len(DeltaTable(str(tmp_path / "tables/balances")).file_uris()) == 10
    engine.maintain("balances")
    assert len(DeltaTable(str(tmp_path / "tables/balances")).file_uris()) == 1
    accounts.code(root, factor=3)
    engine = Engine(root, spark=spark)
    engine.rebuild("balances")

    rows = DeltaTable(str(tmp_path / "tables/balances")).to_pyarrow_table().to_pylist()
    assert Counter((row["account"], row["balance"], row["position"]) for row in rows) == Counter(
        (each.account, each.balance * 3, each.position) for each in some
    )
    assert states(engine) == {"all": State.CLEAN}


def test_a_new_model_is_filled_from_an_old_log_and_its_stream_goes_on(tmp_path: Path, spark: SparkSession):
    root, some = accounts.project(tmp_path), events(40, seed=7)
    arrive(root, some[:20])
    arrive(root, some[20:30])
    engine = Engine(root, spark=spark)

    found = engine.bootstrap("balances")
    assert found.done is None or found.done.refused is None
    assert (held(tmp_path / "tables/balances"), states(engine)) == (wanted(some[:30]), {"all": State.CLEAN})
    arrive(root, some[30:])
    run(engine)
    assert (held(tmp_path / "tables/balances"), states(engine)) == (wanted(some), {"all": State.CLEAN})
    assert engine.verify("balances").holds


def test_a_replay_of_windows_keeps_its_days_and_takes_events_up_to_a_moment(
    tmp_path: Path, spark: SparkSession
):
    text = (
        accounts.PIPELINE.replace("interval: all", "interval: {grain: day, column: day}")
        .replace("event_time: {column: at}", "event_time: {column: at, watermark: 1 hour}")
        .replace("mode: upsert, key: [account], order_by: [position]", "mode: append")
    )
    root, some = accounts.project(tmp_path, text=text), events(80, seed=8)
    (root / "account_code.py").write_text(
        "from pyspark.sql import functions as F\n\n\n"
        "def balances(events):\n"
        "    days = events.groupBy(F.window('at', '1 day').alias('w')).agg(F.count('*').alias('n'))\n"
        "    return days.select(F.col('w.start').alias('day'), 'n')\n"
    )
    arrive(root, some)
    until = START + timedelta(days=3, hours=7)
    Engine(root, spark=spark).replay("balances", tmp_path / "days", until=until)

    table = DeltaTable(str(tmp_path / "days"))
    assert table.metadata().partition_columns == ["event_date"]
    found = {row["day"]: row["n"] for row in table.to_pyarrow_table().to_pylist()}
    days = Counter(each.at.replace(hour=0, minute=0) for each in some if each.at < until)
    assert found == dict(days)


def listing(*folders: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for each in folders for path in each.rglob("*")}


def test_events_up_to_a_position_or_a_moment_are_replayed_into_a_table_elsewhere(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
):
    root, some = accounts.project(tmp_path), events(50, seed=4)
    arrive(root, some[:30])
    arrive(root, some[30:])
    engine = Engine(root, spark=spark)
    run(engine)
    accounts.code(root, factor=2)
    engine = Engine(root, spark=spark)
    mine = listing(tmp_path / "tables", tmp_path / "log")
    middle = START + timedelta(minutes=4000)

    upto = engine.replay("balances", tmp_path / "upto", until=24)
    before = engine.replay("balances", tmp_path / "before", until=middle)
    between = engine.replay(
        "balances", tmp_path / "between", start=START + timedelta(days=1), until=f"{middle:%Y-%m-%dT%H:%M}"
    )
    named = engine.replay("balances", tmp_path / "named", until="24", position_column="POSITION")
    whole = engine.replay("balances", tmp_path / "whole")

    assert held(tmp_path / "upto") == held(tmp_path / "named") == wanted(some[:25], factor=2)
    assert held(tmp_path / "before") == wanted([e for e in some if e.at < middle], factor=2)
    day = [e for e in some if START + timedelta(days=1) <= e.at < middle]
    assert held(tmp_path / "between") == wanted(day, factor=2)
    assert held(tmp_path / "whole") == wanted(some, factor=2)
    assert [each.rows for each in (upto, before, between, named, whole)] == [
        len(held(Path(each.into))) for each in (upto, before, between, named, whole)
    ]
    # Nothing of the pipeline was touched, nothing lies about, and a second time is refused.
    assert listing(tmp_path / "tables", tmp_path / "log") == mine
    assert states(engine) == {"all": State.STALE}
    assert not (tmp_path / "whole/_tidemill").exists()
    with pytest.raises(PlanError, match="is there already"):
        engine.replay("balances", tmp_path / "whole")
    with pytest.raises(PlanError, match="'account' is string"):
        engine.replay("balances", tmp_path / "wrong", until=3, position_column="account")
    with pytest.raises(PlanError, match="it has no column 'seq'"):
        engine.replay("balances", tmp_path / "wrong", until=3, position_column="seq")
    assert not (tmp_path / "wrong").exists()

    # One that died before its commit has left an empty table; the same command goes on.
    with monkeypatch.context() as broken:
        broken.setattr(LogTable, "commit", _killed)
        with pytest.raises(KeyboardInterrupt):
            engine.replay("balances", tmp_path / "again")
    assert held(tmp_path / "again") == {}
    engine.replay("balances", tmp_path / "again")
    assert held(tmp_path / "again") == wanted(some, factor=2)

    # An event without a position is neither before one nor after it.
    arrive(root, [replace(some[0], position=None)])
    with pytest.raises(PlanError, match=r"1 event\(s\) of events have no position"):
        engine.replay("balances", tmp_path / "placeless", until=3)
    assert held(tmp_path / "placeless") == {}
    assert list((tmp_path / "placeless").rglob("*.parquet")) == []


def _killed(*_arguments: Any, **_options: Any) -> None:
    raise KeyboardInterrupt


def test_a_replay_at_a_pace_is_a_live_stream_that_ends_with_the_last_event(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tidemill.execution.pace.TICK_SECONDS", 0.2)
    root, some = accounts.project(tmp_path), events(40, seed=6)
    arrive(root, some)
    engine = Engine(root, spark=spark)
    span = (max(e.at for e in some) - min(e.at for e in some)).total_seconds()

    found = engine.replay("balances", tmp_path / "paced", speed=span / 3)

    assert held(tmp_path / "paced") == wanted(some)
    # In several batches, no faster than asked for.
    batches = [f for f in _facts_at(tmp_path / "paced") if isinstance(f, LiveBatch)]
    assert len(batches) >= 2
    assert (found.rows, found.stopped) == (len(wanted(some)), False)
    assert found.seconds >= 3
    assert 0 < (found.speed or 0) <= span / 3
    assert not (tmp_path / "paced/_tidemill").exists()
    assert not (tmp_path / "tables").exists()


def test_a_paced_replay_that_is_stopped_leaves_what_came_so_far(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tidemill.execution.pace.TICK_SECONDS", 0.2)
    root, some = accounts.project(tmp_path), sorted(events(40, seed=6), key=lambda each: each.at)
    arrive(root, some)
    stop = threading.Event()
    # A tenth of an hour a second: the first event comes at once, and most of a week is left.
    threading.Timer(8, stop.set).start()

    found = Engine(root, spark=spark).replay("balances", tmp_path / "paced", speed="360x", stop=stop)

    assert found.stopped
    assert found.rows < len(wanted(some))
    assert held(tmp_path / "paced").items() <= {e.account: (e.balance, e.position) for e in some[:5]}.items()
    assert not (tmp_path / "paced/_tidemill").exists()


def test_a_table_that_needs_sparks_writer_may_be_a_model(tmp_path: Path, spark: SparkSession):
    root, some = accounts.project(tmp_path), events(30, seed=13)
    spark.sql(
        f"CREATE TABLE delta.`{tmp_path}/tables/balances` (account STRING, balance BIGINT, position BIGINT) USING delta"
    )
    spark.sql(f"ALTER TABLE delta.`{tmp_path}/tables/balances` ADD CONSTRAINT sane CHECK (balance >= 0)")
    arrive(root, some[:15])
    arrive(root, some[15:])
    engine = Engine(root, spark=spark)
    run(engine)
    assert (held(tmp_path / "tables/balances"), states(engine)) == (wanted(some), {"all": State.CLEAN})
    accounts.code(root, factor=2)
    engine = Engine(root, spark=spark)
    engine.rebuild("balances")
    assert (held(tmp_path / "tables/balances"), states(engine)) == (
        wanted(some, factor=2),
        {"all": State.CLEAN},
    )


def _facts_at(path: Path) -> list[Any]:
    from tidemill.intervals import Grain

    return [each.fact for each in commits_after(str(path), -1, Grain.ALL)]


def test_what_is_replayed_elsewhere_is_sent_nowhere(tmp_path: Path):
    text = accounts.PIPELINE.replace(
        "mode: upsert, key: [account], order_by: [position]}}",
        "mode: append}, kafka: {servers: '127.0.0.1:9', topic: t}}",
    )
    pipeline = Engine(accounts.project(tmp_path, text=text)).project.pipeline("balances")

    assert pipeline.sink.kafka is not None
    assert replays.target_of(pipeline, str(tmp_path / "new")).sink.kafka is None
