"""RabbitMQ's streams against a real broker: every record once, resumed exactly, and a loud stop where that cannot be.

What is expected comes from what was published: bodies are numbers, in the order of their publishing.
"""

from __future__ import annotations

import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika.data
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from tests.services.rabbitmq import Broker, free_port
from tidemill.errors import ConfigError, SourceError
from tidemill.sources.rabbitmq import RabbitStreamSource
from tidemill.sources.rabbitmq_options import RabbitOptions, rabbit_options
from tidemill.sources.rabbitmq_publish import Message, PublishError, publish
from tidemill.sources.rabbitmq_stream import declare, end_of, first_of, read_range

pytestmark = pytest.mark.spark

SMALL_SEGMENTS = {"x-stream-max-segment-size-bytes": 20_000}
SHORT = {**SMALL_SEGMENTS, "x-max-length-bytes": 60_000}


@dataclass
class Queue:
    """A stream, what was published to it, and how Spark reads it."""

    broker: Broker
    spark: SparkSession
    folder: Path
    name: str
    published: int = 0

    def options(self, **more: object) -> dict[str, str]:
        return {**self.broker.options, "queue": self.name, **{key: str(value) for key, value in more.items()}}

    @property
    def reached(self) -> RabbitOptions:
        return rabbit_options(self.options())

    def publish(self, count: int, **where: str) -> None:
        numbers = range(self.published, self.published + count)
        assert publish(self.reached, (Message(str(each).encode()) for each in numbers), **where) == count
        self.published += count

    def publish_once_it_is_up(self) -> None:
        """A broker takes logins a moment before the stream takes records; one that is returned is not in it."""
        until = time.monotonic() + 60
        while True:
            try:
                return self.publish(1)
            except PublishError:
                if time.monotonic() > until:
                    raise
                threading.Event().wait(0.1)

    def declare(self, arguments: dict[str, int] | None = None) -> None:
        with self.broker.channel() as channel:
            channel.queue_declare(
                self.name, durable=True, arguments={"x-queue-type": "stream", **(arguments or {})}
            )

    def delete(self) -> None:
        with self.broker.channel() as channel:
            channel.queue_delete(self.name)

    def history(self, **options: object) -> DataFrame:
        return self.spark.read.format("rabbitmq_stream").options(**self.options(**options)).load()

    def subscriber(self, name: str = "subscriber", **options: object) -> Subscriber:
        return Subscriber(self, self.folder / name, options)


@dataclass
class Subscriber:
    """A query with its checkpoint; what it was given lies in a folder for each batch, replaced where it is repeated."""

    queue: Queue
    folder: Path
    options: dict[str, object]

    def start(self, on_batch: Callable[[int, int], None] | None = None, **trigger: object):
        def land(frame: DataFrame, batch: int) -> None:
            frame.write.mode("overwrite").parquet(str(self.folder / f"rows/batch={batch}"))
            if on_batch is not None:
                on_batch(batch, sum(self.sizes()))

        stream = self.queue.spark.readStream.format("rabbitmq_stream")
        return (
            stream.options(**self.queue.options(**self.options))
            .load()
            .writeStream.foreachBatch(land)
            .option("checkpointLocation", str(self.folder / "checkpoint"))
            .trigger(**(trigger or {"availableNow": True}))
            .start()
        )

    def run(self, on_batch: Callable[[int, int], None] | None = None) -> None:
        self.start(on_batch).awaitTermination(60)

    def rows(self) -> list[dict[str, Any]]:
        """What it has now, in the order of offsets, with the batch of each; read without Spark, which takes seconds."""
        found = [
            row | {"batch": int(file.parent.name.removeprefix("batch="))}
            for file in self.folder.glob("rows/batch=*/*.parquet")
            for row in pq.ParquetFile(file).read().to_pylist()
        ]
        return sorted(found, key=lambda row: row["offset"])

    def numbers(self) -> list[int]:
        return [int(row["body"]) for row in self.rows()]

    def sizes(self) -> list[int]:
        return [*Counter(row["batch"] for row in self.rows()).values()]


def numbers(frame: DataFrame) -> list[int]:
    return [int(row.body) for row in frame.orderBy("offset").select("body").collect()]


@pytest.fixture
def queue(rabbit: Broker, spark: SparkSession, tmp_path: Path) -> Queue:
    spark.dataSource.register(RabbitStreamSource)
    return Queue(rabbit, spark, tmp_path, f"q-{uuid4().hex[:8]}")


def test_every_record_comes_once_over_segments_batches_and_tasks(queue: Queue):
    queue.declare(SMALL_SEGMENTS)
    for count in (1, 900, 40, 1, 1200):
        queue.publish(count)
    subscriber = queue.subscriber(max_records_per_batch=700, records_per_partition=300)

    subscriber.run()

    assert subscriber.numbers() == list(range(queue.published))
    assert max(subscriber.sizes()) <= 700
    offsets = [row["offset"] for row in subscriber.rows()]
    assert len(set(offsets)) == len(offsets)
    # Where a segment begins the broker takes an offset for itself: the case that is read here.
    assert offsets[-1] - offsets[0] >= queue.published


class Sent(bytes):
    """A header's value as it goes over the line, its kind first; the client that we publish with sends not every kind."""


def test_a_record_has_what_its_publisher_gave_it(queue: Queue, monkeypatch: pytest.MonkeyPatch):
    theirs = pika.data.encode_value
    monkeypatch.setattr(
        "pika.data.encode_value",
        lambda to, value: (to.append(value), len(value))[1] if isinstance(value, Sent) else theirs(to, value),
    )
    queue.declare()
    headers = {"source": "till", "count": 3, "paid": True, "nothing": None}
    far = {
        "at": Sent(b"T" + struct.pack(">Q", 1_700_000_000_000)),
        "share": Sent(b"d" + struct.pack(">d", 3.7)),
    }
    messages = [Message(b"\x00\xff", None, "m-1", headers, 1_700_000_000), Message(b"")]
    messages.append(Message(b"", headers=far, timestamp=1_700_000_000_000))
    publish(queue.reached, messages)

    first, second, third = queue.history().orderBy("offset").collect()

    assert first.asDict() == {
        "offset": 0,
        "exchange": "",
        "routing_key": queue.name,
        "message_id": "m-1",
        "headers": {"source": "till", "count": "3", "paid": "true", "nothing": None},
        "timestamp": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC).replace(tzinfo=None),
        "body": b"\x00\xff",
    }
    assert (second.body, second.message_id, second.headers, second.timestamp) == (b"", None, {}, None)
    # No year has these moments, and they end no stream.
    assert (third.headers, third.timestamp) == ({"at": "1700000000000", "share": "3.7"}, None)


def test_available_now_ends_at_what_was_there_at_its_start(queue: Queue):
    queue.declare()
    queue.publish(500)
    subscriber = queue.subscriber(max_records_per_batch=200)

    subscriber.run(lambda batch, _taken: queue.publish(100) if batch == 1 else None)
    assert subscriber.numbers() == list(range(500))

    subscriber.run()
    assert subscriber.numbers() == list(range(600))


def test_subscribers_have_positions_of_their_own_and_a_late_one_replays(queue: Queue):
    queue.declare()
    queue.publish(300)
    early, tail = queue.subscriber("early"), queue.subscriber("tail", start="next")
    early.run()
    tail.run()
    queue.publish(300)
    late = queue.subscriber("late", start="first")
    for each in (late, tail, early):
        each.run()

    assert early.numbers() == late.numbers() == list(range(600))
    assert tail.numbers() == list(range(300, 600))
    assert max(early.sizes()) == 300  # it was not read from the start again


def test_a_new_query_binds_a_queue_of_its_own_to_an_exchange(queue: Queue):
    exchange = f"x-{queue.name}"
    with pytest.raises(PySparkException, match=f"no exchange '{exchange}'"):
        queue.subscriber(exchange=exchange).run()
    subscriber = queue.subscriber(exchange=exchange, declare_exchange="true")
    subscriber.run()

    publish_to(queue.broker, exchange, ["a", "b"])  # by someone who knows nothing of it
    subscriber.run()

    rows = subscriber.rows()
    assert [(row["body"], row["routing_key"]) for row in rows] == [(b"a", "a"), (b"b", "b")]
    assert {row["exchange"] for row in rows} == {exchange}


@pytest.mark.parametrize(
    ("kind", "keys", "sent", "taken"),
    [
        ("direct", "a,c", ["a", "b", "c"], [b"a", b"c"]),
        (
            "topic",
            "order.#",
            ["order.new", "stock.new", "order.gone.late"],
            [b"order.new", b"order.gone.late"],
        ),
    ],
)
def test_a_binding_takes_what_its_keys_say(queue: Queue, kind, keys, sent, taken):
    exchange = f"x-{queue.name}"
    binding = {"exchange": exchange, "exchange_type": kind, "routing_keys": keys, "declare_exchange": "true"}
    options = rabbit_options(queue.options(**binding))
    declare(options)
    declare(options)  # the second subscriber of that name finds all as it is

    publish_to(queue.broker, exchange, sent)

    assert [row[-1] for row in read_range(options, 0, end_of(options) or 0)] == taken


def publish_to(broker: Broker, exchange: str, keys: list[str]) -> None:
    with broker.channel() as channel:
        channel.confirm_delivery()
        for key in keys:
            channel.basic_publish(exchange, key, key.encode())


def test_a_query_that_failed_goes_on_from_its_checkpoint(queue: Queue):
    queue.declare(SMALL_SEGMENTS)
    queue.publish(1000)
    subscriber = queue.subscriber(max_records_per_batch=300)

    def fail(batch: int, _taken: int) -> None:
        if batch == 2:
            raise RuntimeError("power cut")

    with pytest.raises(PySparkException, match="power cut"):
        subscriber.run(fail)
    queue.publish(500)
    subscriber.run()

    assert subscriber.numbers() == list(range(1500))


def test_a_first_batch_that_failed_loses_nothing_of_next(queue: Queue):
    queue.declare()
    queue.publish(10)
    subscriber = queue.subscriber(start="next")

    def fail(_batch: int, _taken: int) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(PySparkException, match="power cut"):
        subscriber.run(fail)
    queue.publish(20)  # while it is down
    subscriber.run()

    assert subscriber.numbers() == list(range(10, 30))


def test_history_is_exactly_the_range_that_was_asked_for(queue: Queue):
    queue.declare(SMALL_SEGMENTS)
    for _ in range(3):
        queue.publish(500)
    every = {row[0]: int(row[-1]) for row in read_range(queue.reached, 0, end_of(queue.reached) or 0)}
    assert list(every.values()) == list(range(1500))
    end = max(every) + 1

    assert numbers(queue.history()) == list(range(1500))
    for start, until in [(0, 1), (7, 1203), (end - 1, end), (40, 40)]:
        asked = queue.history(start_offset=start, end_offset=until, records_per_partition=500)
        assert numbers(asked) == [number for offset, number in every.items() if start <= offset < until]


def test_the_end_is_exact_after_every_confirm(queue: Queue):
    queue.declare(SMALL_SEGMENTS)
    dice = random.Random(6)
    assert end_of(queue.reached) is None
    assert first_of(queue.reached) is None
    for _ in range(25):
        queue.publish(dice.choice([1, 2, 30, 400]))
        end = end_of(queue.reached)
        assert end is not None
        (last,) = read_range(queue.reached, end - 1, end)
        assert int(last[-1]) == queue.published - 1
    assert first_of(queue.reached) == 0


def test_a_broker_that_restarts_is_read_on_from_the_same_record(queue: Queue):
    queue.declare()
    queue.publish(6000)
    reading = read_range(queue.reached, 0, 6000)
    head = [int(next(reading)[-1]) for _ in range(100)]  # fewer than are on their way at once
    subscriber = queue.subscriber()
    caught_up, whole = threading.Event(), threading.Event()

    def note(_batch: int, taken: int) -> None:
        caught_up.set() if taken == 6000 else None
        whole.set() if taken == 6500 else None

    query = subscriber.start(note, processingTime="200 milliseconds")
    try:
        assert caught_up.wait(60)
        queue.broker.stop()
        queue.broker.start()
        queue.publish_once_it_is_up()
        queue.publish(499)
        assert whole.wait(60), query.exception()
    finally:
        query.stop()

    assert head + [int(row[-1]) for row in reading] == list(range(6000))
    assert subscriber.numbers() == list(range(6500))


def test_retention_that_passed_the_position_stops_the_query(queue: Queue):
    queue.declare(SHORT)
    queue.publish(10)
    subscriber = queue.subscriber()
    subscriber.run()
    for _ in range(12):
        queue.publish(1000)
    first = first_of(queue.reached)
    assert first is not None
    assert first > 10

    with pytest.raises(
        PySparkException, match=rf"offsets 10 to {first - 1} of queue '{queue.name}'.* are gone"
    ):
        subscriber.run()

    assert subscriber.numbers() == list(range(10))
    with pytest.raises(PySparkException, match=r"offsets 3 to \d+ of queue .* are gone"):
        queue.history(start_offset=3).collect()


def test_a_queue_deleted_under_a_query_stops_it(queue: Queue):
    queue.declare()
    queue.publish(10)
    there = threading.Event()
    query = queue.subscriber().start(
        lambda _batch, taken: there.set() if taken == 10 else None, processingTime="100 milliseconds"
    )
    try:
        assert there.wait(60)
        queue.delete()
        with pytest.raises(PySparkException, match=f"queue '{queue.name}'.* is not there"):
            query.awaitTermination(60)
    finally:
        query.stop()


def test_a_queue_made_anew_stops_the_query(queue: Queue):
    bound = {"exchange": f"x-{queue.name}", "declare_exchange": "true"}
    subscriber = queue.subscriber(**bound)
    subscriber.run()
    queue.publish(10, exchange=bound["exchange"])
    subscriber.run()
    queue.delete()

    with pytest.raises(PySparkException, match=f"queue '{queue.name}'.* is not there"):
        subscriber.run()  # it does not make an empty one in silence
    queue.declare()
    queue.publish(3)
    with pytest.raises(PySparkException, match=r"ends at offset 3; this query is to read on from 10"):
        subscriber.run()


def test_wrong_credentials_queues_and_ranges_are_told_apart(queue: Queue):
    queue.declare()
    queue.publish(5)
    password = queue.broker.password
    with queue.broker.channel() as channel:
        channel.queue_declare(f"{queue.name}-classic")
    wrong = [
        ({"password": "hunter2"}, "refused the login of user 'tide'"),
        ({"vhost": "nowhere"}, "vhost 'nowhere'"),
        ({"queue": "nothing"}, "queue 'nothing' .* is not there"),
        ({"queue": f"{queue.name}-classic"}, "is not of type stream"),
        ({"end_offset": 9}, "ends at offset 5; offsets up to 9 were asked for"),
        ({"start_offset": 4, "end_offset": 2}, "start_offset 4 lies behind end_offset 2"),
        ({"port": free_port(), "reconnect_attempts": 1}, r"could not be read: .*refused.* \(1 attempts"),
        ({"start": "yesterday"}, "'start' is 'yesterday'"),
    ]
    for options, message in wrong:
        with pytest.raises(PySparkException, match=message) as caught:
            queue.history(**options).collect()
        assert "next: " in str(caught.value)
        assert password not in str(caught.value)
        assert "hunter2" not in str(caught.value)


def test_the_password_is_in_no_plan_and_no_progress(queue: Queue, capsys: pytest.CaptureFixture[str]):
    queue.declare()
    queue.publish(5)
    queue.history().explain(extended=True)
    query = queue.subscriber().start()
    query.awaitTermination(60)
    query.explain(extended=True)

    told = (
        capsys.readouterr().out + str(query.recentProgress) + queue.history()._jdf.queryExecution().toString()
    )
    assert "RabbitStream" in told or "rabbitmq_stream" in told
    assert queue.broker.password not in told


def test_what_a_publisher_cannot_deliver_is_an_error(queue: Queue):
    with pytest.raises(PublishError) as caught:
        publish(queue.reached, [Message(b"1")])
    assert queue.name in caught.value.message
    assert caught.value.params["confirmed"] == 0

    with pytest.raises(ConfigError, match="no exchange"):
        publish(queue.reached, [Message(b"1")], exchange=f"x-{queue.name}")
    with pytest.raises(ConfigError, match="refused the login"):
        publish(replace(queue.reached, password="hunter2"), [Message(b"1")])  # noqa: S106  # it is a wrong one
    with pytest.raises(SourceError, match="is not there"):
        end_of(queue.reached)
