"""Row 13: a broker that goes in the middle of a batch, forgets what was not read yet, or gets its topic made anew.

Of RabbitMQ's queues the same is in ``tests/scenarios/test_rabbitmq_trouble.py``.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.fire.matrix import Tally, report_mutant
from tests.profile import FULL
from tests.services.kafka import Kafka
from tidemill import Engine
from tidemill.errors import SourceError, TidemillError
from tidemill.model import Trigger
from tidemill.protocol import Point, listening
from tidemill.testing import Guard, without

pytestmark = [pytest.mark.row(13), pytest.mark.timeout(600)]
START = datetime(2024, 5, 1, tzinfo=UTC)
AWAY = 2.0  # seconds
# At length, also where the batch needs its broker no more.
_MORE = (Point.FILES_STAGED, Point.BATCH_PUBLISHED) if FULL else ()
MOMENTS = (Point.OFFSETS_WRITTEN, Point.COMMITTED, *_MORE)
IMPATIENT = {
    "kafkaConsumer.pollTimeoutMs": "2000",
    "kafka.default.api.timeout.ms": "2000",
    "kafka.request.timeout.ms": "1500",
}


class Feed:
    """One pipeline over one topic of two partitions, and the oracle: what was sent and is not known to be lost."""

    def __init__(self, folder: Path, spark: SparkSession, kafka: Kafka, topic: str, tally: Tally) -> None:
        self.kafka, self.topic, self.spark, self.folder, self.tally = kafka, topic, spark, folder, tally
        self.sent: Counter[int] = Counter()
        kafka.create(topic, partitions=2)
        self.engine = self.told()

    def told(self, **options: str) -> Engine:
        """The engine, with these options of the client."""
        source = {
            "servers": self.kafka.servers,
            "topics": [self.topic],
            "schema": "id BIGINT, at TIMESTAMP",
            "max_offsets_per_batch": 10,
            "options": options,
        }
        pipeline = {
            "name": "events",
            "source": {"kafka": source},
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": "data/events"}},
        }
        (self.folder / "conf/pipelines").mkdir(parents=True, exist_ok=True)
        (self.folder / "conf/pipelines/events.yml").write_text(json.dumps(pipeline))
        self.engine = Engine(self.folder, spark=self.spark)
        return self.engine

    def send(self, numbers: range, *, expected: bool = True) -> None:
        for part in (0, 1):
            bodies = [
                json.dumps({"id": n, "at": (START + timedelta(hours=n)).isoformat()})
                for n in numbers
                if n % 2 == part
            ]
            self.kafka.produce(self.topic, bodies, partition=part)
        if expected:
            self.sent += Counter(numbers)

    def run(self) -> None:
        self.tally.runs += 1
        (outcome,) = self.engine.run("events", trigger=Trigger(available_now=True))
        if outcome.error is not None:
            raise outcome.error

    def check(self, sent: Counter[int] | None = None) -> None:
        sent = self.sent if sent is None else sent
        table = DeltaTable(str(self.folder / "data/events"))
        held = Counter(table.to_pyarrow_table(columns=["id"])["id"].to_pylist())
        self.tally.lost += (sent - held).total()
        self.tally.doubled += (held - sent).total()
        assert held == sent
        rows = sum(row.rows or 0 for row in self.engine.coverage("events").rows)
        assert rows == held.total(), "the ledger says otherwise than the table"


@pytest.fixture
def feed(
    tmp_path: Path, spark: SparkSession, kafka: Kafka, tally: Tally, request: pytest.FixtureRequest
) -> Feed:
    name = request.node.name.removeprefix("test_").replace("[", "-").rstrip("]")
    return Feed(tmp_path, spark, kafka, f"fire-{name}", tally)


@contextmanager
def gone_at(moments: tuple[Point, ...], broker: Kafka) -> Iterator[list[Point]]:
    """The broker is killed when the run first comes to each of these points, and started again after a while."""
    met: list[Point] = []
    returns: list[threading.Timer] = []

    def kill(point: Point) -> None:
        if point in moments and point not in met:
            for each in returns:
                each.join()
            met.append(point)
            broker.stop()
            returns.append(threading.Timer(AWAY, broker.start))
            returns[-1].start()

    with listening(kill):
        try:
            yield met
        finally:
            for each in returns:
                each.join()


def test_a_broker_that_goes_in_the_middle_of_batches_and_returns(feed: Feed) -> None:
    feed.send(range(50))
    with gone_at(MOMENTS, feed.kafka) as met:
        feed.run()
    feed.tally.kills += len(met)
    assert set(met) == set(MOMENTS)
    feed.check()
    feed.send(range(50, 60))
    feed.run()
    feed.check()
    assert feed.engine.verify("events").holds


def test_a_broker_that_does_not_return_ends_the_run_and_the_next_one_goes_on(feed: Feed) -> None:
    feed.send(range(10))
    feed.run()
    feed.send(range(10, 30), expected=False)
    feed.told(**IMPATIENT)
    began = time.monotonic()

    def kill(point: Point) -> None:
        if point is Point.OFFSETS_WRITTEN:
            feed.kafka.stop()

    try:
        with listening(kill), pytest.raises(SourceError) as raised:
            feed.run()
    finally:
        feed.kafka.start()
    feed.tally.kills += 1
    assert time.monotonic() - began < 60
    assert feed.kafka.servers in raised.value.message
    feed.check()
    # Unaided, with what was sent meanwhile.
    feed.sent += Counter(range(10, 30))
    feed.send(range(30, 40))
    back = time.monotonic()
    feed.run()
    feed.tally.recovered(time.monotonic() - back)
    feed.check()


def test_records_that_retention_took_before_they_were_read_are_named(feed: Feed) -> None:
    feed.send(range(20))
    feed.run()
    feed.send(range(20, 40), expected=False)
    feed.kafka.forget(feed.topic, 1, 13)
    with pytest.raises(SourceError, match="offsets 10 to 12 are gone") as raised:
        feed.run()
    assert (raised.value.params["topic"], raised.value.params["partition"]) == (feed.topic, "1")
    feed.check()


def made_anew(feed: Feed) -> None:
    """A topic is deleted and made again, and grows past the offsets of the old one."""
    feed.send(range(20))
    feed.run()
    feed.kafka.delete(feed.topic)
    feed.kafka.create(feed.topic, partitions=2)
    feed.send(range(100, 140), expected=False)
    stopped = None
    try:
        feed.run()
    except SourceError as error:
        stopped = error
    held = feed.sent if stopped else feed.sent + Counter(range(100, 140))
    feed.check(held)
    assert stopped is None or "was made anew" in stopped.message


def test_a_topic_that_was_made_anew_stops_the_stream(feed: Feed) -> None:
    made_anew(feed)


def test_without_its_guard_a_topic_that_was_made_anew_loses_rows(feed: Feed) -> None:
    noticed, lost = None, feed.tally.lost
    try:
        with without(Guard.SAME_TOPIC):
            made_anew(feed)
    except (AssertionError, TidemillError) as harm:
        noticed = f"{type(harm).__name__}: {harm}"
    report_mutant(Guard.SAME_TOPIC, noticed)
    assert noticed is not None
    assert feed.tally.lost > lost, "what was noticed is not the loss"
    feed.tally.lost = lost  # it is the mutant's
