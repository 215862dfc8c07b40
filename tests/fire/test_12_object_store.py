"""Row 12: a store that says 503, does not answer in time, or does what it is asked and loses the reply."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.fire.matrix import Tally
from tests.profile import FULL
from tests.services.faults import Asked, Fault, Proxy, once, proxy, storm
from tests.services.s3 import KEY, REGION, SECRET, Store, running_store
from tests.store.lake import Lake
from tidemill.errors import TidemillError
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Guard, without

pytestmark = [pytest.mark.row(12), pytest.mark.timeout(600)]
STALE = Request(states=frozenset({State.STALE}))
ROUNDS = 8 if FULL else 1
PATIENCE = 2


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with running_store() as found:
        yield found


@pytest.fixture(scope="module")
def faults(store: Store) -> Iterator[Proxy]:
    with proxy(store.endpoint, PATIENCE + 1) as found:
        yield found


@pytest.fixture
def lake(
    tmp_path: Path,
    store: Store,
    faults: Proxy,
    spark: SparkSession,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Lake:
    """Reached through the proxy; the oracle asks the store itself. Hadoop keeps what it was told of a bucket: one each."""
    bucket = store.make_bucket(f"fire-{seed}-{tmp_path.name[-20:].replace('_', '-').strip('-')}")
    (tmp_path / "conf").mkdir()
    monkeypatch.setenv("LAKE_SECRET", SECRET)
    (tmp_path / "conf/stores.yml").write_text(
        f"{bucket}: {{endpoint: '{faults.endpoint}', region: {REGION}, timeout: {PATIENCE}s, "
        f"access_key: {KEY}, secret_key: '${{env:LAKE_SECRET}}'}}\n"
    )
    return Lake(tmp_path, store, bucket, spark)


def apps(lake: Lake, name: str = "readings") -> Counter[tuple[str, int]]:
    """How often each application transaction stands in a log."""
    log = [key for key in lake.objects() if f"tables/{name}/_delta_log/0" in key and key.endswith(".json")]
    found: Counter[tuple[str, int]] = Counter()
    for key in log:
        body = lake.store.client().get_object(Bucket=lake.bucket, Key=key)["Body"].read().decode()
        actions = [json.loads(line) for line in body.splitlines()]
        found.update((a["txn"]["appId"], a["txn"]["version"]) for a in actions if "txn" in a)
    return found


def of_the_table(asked: Asked) -> bool:
    """Whether a request commits to the table that is there."""
    return asked.commits and "readings/_delta_log" in asked.path and not asked.path.endswith(f"/{0:020}.json")


def a_batch_in_doubt(lake: Lake, faults: Proxy, fault: Fault) -> None:
    """A live batch's commit meets ``fault``; it must be there once."""
    lake.arrive(1, bad=1)
    with faults.doing(once(fault, of_the_table)) as done:
        (outcome,) = lake.engine.run("readings")
    assert len(done) == 1
    assert outcome.error is None, outcome.error
    lake.check()


def test_a_commit_whose_reply_is_lost_is_there_once(lake: Lake, faults: Proxy, tally: Tally) -> None:
    tally.runs += 2
    a_batch_in_doubt(lake, faults, Fault.LOST_REPLY)
    lake.use(10)
    with faults.doing(once(Fault.LOST_REPLY, of_the_table)) as done:
        swapped = lake.engine.backfill("readings", STALE)
    assert len(done) == 1
    assert [chunk.outcome for chunk in swapped.chunks] == ["swapped"] * 2
    lake.check()
    assert set(apps(lake).values()) == {1}


def test_a_commit_that_is_done_after_it_was_given_up_is_there_once(
    lake: Lake, faults: Proxy, tally: Tally
) -> None:
    tally.runs += 1
    a_batch_in_doubt(lake, faults, Fault.LATE)
    assert set(apps(lake).values()) == {1}


def test_a_quarantine_in_doubt_has_each_row_once(lake: Lake, faults: Proxy, tally: Tally) -> None:
    tally.runs += 1
    lake.arrive(1, bad=2)
    # The first commit makes the table.
    with faults.doing(
        once(
            Fault.LOST_REPLY,
            lambda a: a.commits and "readings_quarantine" in a.path and a.path[-6:] == "1.json",
        )
    ) as done:
        (outcome,) = lake.engine.run("readings")
    assert len(done) == 1
    assert outcome.error is None, outcome.error
    lake.check()
    assert set(apps(lake, "readings_quarantine").values()) == {1}


def test_a_storm_of_faults_harms_nothing(lake: Lake, faults: Proxy, seed: int, tally: Tally) -> None:
    chance = random.Random(seed)
    met: Counter[Fault] = Counter()
    for number in range(ROUNDS):
        lake.arrive(2, bad=1)
        with faults.doing(storm(chance, 0.03)) as done:
            _try(lambda: lake.engine.run("readings"), tally)
            if number % 2 == 0:
                lake.use(lake.factor + 1)
                _try(lambda: lake.engine.backfill("readings", STALE), tally)
        met.update(fault for fault, _ in done)
        _settle(lake, tally)
    assert met, "no request met a fault"
    assert set(apps(lake).values()) == {1}


def _try(work: object, tally: Tally) -> None:
    tally.runs += 1
    try:
        found = work()  # type: ignore[operator]
    except TidemillError:
        return
    for outcome in found if isinstance(found, tuple) else ():
        assert outcome.error is None or isinstance(outcome.error, TidemillError)


def _settle(lake: Lake, tally: Tally) -> None:
    """The store is well again: an unaided start goes on, and everything is there once."""
    tally.runs += 2
    (outcome,) = lake.engine.run("readings")
    assert outcome.error is None, outcome.error
    rows = Counter(row["id"] for row in lake.rows())
    wanted = Counter(event["id"] for event in lake.events)
    tally.lost += sum((wanted - rows).values())
    tally.doubled += sum((rows - wanted).values())
    lake.engine.backfill("readings", STALE)
    lake.check()
    assert lake.engine.status("readings")[0].running is None


def test_without_the_application_transaction_the_doubt_does_harm(
    lake: Lake, faults: Proxy, tally: Tally
) -> None:
    tally.runs += 1
    with pytest.raises(AssertionError), without(Guard.APP_TRANSACTION):
        a_batch_in_doubt(lake, faults, Fault.LOST_REPLY)
    assert max(apps(lake).values()) > 1, "what was noticed is not the double commit"
