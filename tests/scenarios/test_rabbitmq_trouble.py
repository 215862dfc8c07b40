"""RabbitMQ as a source when something goes wrong: read again exactly, waited for within bounds, or stopped with a reason."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows, table_version
from tests.scenarios.rabbitmq_feed import (
    SMALL_SEGMENTS,
    declare,
    delete,
    engine_of,
    held,
    options,
    run,
    send,
    wanted,
)
from tests.services.rabbitmq import Broker, free_port
from tidemill.errors import ConfigError, PlanError, SourceError, StateError, TidemillError, TransformError
from tidemill.model import Trigger
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening
from tidemill.sources.rabbitmq_publish import Message, PublishError, publish

pytestmark = pytest.mark.spark

SHORT = {**SMALL_SEGMENTS, "x-max-length-bytes": 60_000}
KILLS = """
import os
import signal
from pathlib import Path

from pyspark.sql import functions as F


@F.udf("bigint")
def once(number):
    mark = Path(__file__).with_name("killed")
    if number == 37 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def through(events):
    return events.select("id", "at", once("v").alias("v"), "message_id")
"""


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """The name of a queue of the test's own."""
    return str(request.node.name).removeprefix("test_")


def test_a_task_whose_process_is_killed_reads_again_exactly(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue, SMALL_SEGMENTS)
    send(rabbit, queue, range(60))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/__init__.py").touch()
    (tmp_path / "jobs/kills.py").write_text(KILLS)
    engine = engine_of(tmp_path, spark, rabbit, queue, transform="jobs.kills:through")
    with pytest.raises(TransformError, match="Python process ended"):
        run(engine)  # one attempt a task, as tests have it: the batch fails
    assert held(tmp_path) == wanted(range(25))

    run(engine)

    assert held(tmp_path) == wanted(range(60))


def test_a_driver_that_dies_at_any_point_of_a_batch_goes_on_exactly(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue)
    send(rabbit, queue, range(100, 110))
    engine = engine_of(tmp_path, spark, rabbit, queue, more="\n    starting: next")
    points = (
        *(Point.OFFSETS_WRITTEN, Point.COMMITTED),  # of the batch that says where the stream begins
        *(Point.OFFSETS_WRITTEN, Point.BAD_ROWS_SET_ASIDE, Point.BATCH_PUBLISHED),
    )
    for number, point in enumerate(points):
        with listening(dying_at(point)), pytest.raises(TransformError, match="dies here"):
            run(engine)
        send(rabbit, queue, range(number * 10, number * 10 + 9))
        publish(options(rabbit, queue), [Message(b"no record %d" % number)])
    run(engine)

    sent = Counter(n for n in range(50) if n % 10 < 9)
    assert held(tmp_path) == Counter({(n, n, f"m{n}"): count for n, count in sent.items()})
    aside = Counter(row["record"] for row in rows(tmp_path / "data/events_quarantine"))
    assert aside == Counter(f"no record {number}" for number in range(5))
    assert engine.verify("events").holds


def dying_at(point: Point) -> Callable[[Point], None]:
    def die(at: Point) -> None:
        if at is point:
            raise RuntimeError("dies here")

    return die


def test_a_broker_that_is_away_is_waited_for_within_bounds(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue)
    send(rabbit, queue, range(300))

    def stop(version: int) -> None:
        until(lambda: table_version(tmp_path / "data/events") >= version)
        rabbit.stop()

    engine = engine_of(tmp_path, spark, rabbit, queue, most=15)
    with (
        beside(lambda: stop(2)),
        pytest.raises(SourceError, match=r"could not be read: .*\(2 attempts") as raised,
    ):
        run(engine)  # it does not come back in two seconds
    assert "the query goes on where it stopped" in raised.value.next_step
    assert held(tmp_path).total() < 300
    rabbit.start()

    def restart() -> None:
        stop(table_version(tmp_path / "data/events") + 1)
        rabbit.start()

    with beside(restart):
        run(engine_of(tmp_path, spark, rabbit, queue, most=15, attempts=60))

    assert held(tmp_path) == wanted(range(300))
    until_taken(lambda: send(rabbit, queue, range(300, 301)))
    run(engine)
    assert held(tmp_path) == wanted(range(301))


def test_a_queue_that_is_deleted_while_a_stream_runs_ends_it(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue)
    send(rabbit, queue, range(10))
    engine = engine_of(tmp_path, spark, rabbit, queue)

    def delete_it() -> None:
        until(lambda: table_version(tmp_path / "data/events") >= 2)
        delete(rabbit, queue)

    with beside(delete_it):
        (outcome,) = engine.run("events", trigger=Trigger.model_validate({"processing_time": "200 ms"}))

    assert isinstance(outcome.error, SourceError)
    assert f"events: queue '{queue}'" in outcome.error.message
    assert "is not there" in outcome.error.message
    assert "start with a new checkpoint" in outcome.error.next_step
    assert held(tmp_path) == wanted(range(10))
    with pytest.raises(SourceError, match="is not there"):
        engine.verify("events")


def test_a_queue_that_is_not_the_one_that_was_read_is_not_read_on(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    for name in (queue, "another"):
        declare(rabbit, name)
        send(rabbit, name, range(20))
    engine = engine_of(tmp_path, spark, rabbit, queue)
    run(engine)
    with pytest.raises(StateError, match=f"has read queue {queue}, and events is now queue another"):
        run(engine_of(tmp_path, spark, rabbit, "another"))

    delete(rabbit, queue)
    engine = engine_of(tmp_path, spark, rabbit, queue)
    with pytest.raises(SourceError, match="is not there"):
        run(engine)
    declare(rabbit, queue)
    send(rabbit, queue, range(100, 103))
    with pytest.raises(SourceError, match="ends at offset 3, and had 20"):
        run(engine)
    with pytest.raises(SourceError, match="ends at offset 3, and had 20"):
        engine.verify("events")
    send(rabbit, queue, range(103, 140))  # past the old one's end
    for read in (lambda: run(engine), lambda: engine.verify("events")):
        with pytest.raises(
            SourceError, match="made anew since it was read: another record stands at offset 19"
        ):
            read()
    assert held(tmp_path) == wanted(range(20))


def test_records_that_retention_took_stop_what_needs_them(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    declare(rabbit, queue, SHORT)
    send(rabbit, queue, range(10))
    engine = engine_of(tmp_path, spark, rabbit, queue)
    run(engine)
    for _ in range(6):
        send(rabbit, queue, range(10, 510))
    with pytest.raises(SourceError, match=rf"offsets 0 to \d+ of queue '{queue}'.* are gone"):
        engine.verify("events")
    with pytest.raises(SourceError, match=rf"offsets 10 to \d+ of queue '{queue}'.* are gone") as raised:
        run(engine)
    assert "start=first" in raised.value.next_step
    assert held(tmp_path) == wanted(range(10))


def test_what_is_wrong_with_broker_login_queue_or_exchange_is_said(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    with rabbit.channel() as channel:
        channel.queue_declare("classic")
        channel.exchange_declare("of-direct", exchange_type="direct", durable=True)
    user, closed = f"amqp://{rabbit.user}", free_port()
    exchange = "\n    exchange: {}".format
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"url": f"{user}:hunter2@127.0.0.1:{rabbit.port}"}, ConfigError, "refused the login of user 'tide'"),
        ({"url": f"{rabbit.url}/nowhere"}, ConfigError, "vhost 'nowhere'"),
        (
            {"url": f"{user}:x@127.0.0.1:{closed}"},
            SourceError,
            r"could not be read: .*refused.* \(2 attempts",
        ),
        ({}, SourceError, f"queue '{queue}'.* is not there"),
        ({"queue": "classic"}, ConfigError, "is not of type stream"),
        ({"more": exchange("misspelt")}, ConfigError, "the broker has no exchange 'misspelt'"),
        ({"more": exchange("of-direct")}, ConfigError, "inequivalent arg 'type' for exchange 'of-direct'"),
    ]
    for parts, kind, message in wrong:
        engine = engine_of(tmp_path, spark, rabbit, **{"queue": queue} | parts)
        with pytest.raises(kind, match=message) as raised:
            run(engine)
        assert isinstance(raised.value, TidemillError)
        assert raised.value.next_step
        assert rabbit.password not in str(raised.value)
        assert "hunter2" not in str(raised.value)
    with pytest.raises(PlanError, match=f"no live stream has read queue {queue}"):
        engine_of(tmp_path, spark, rabbit, queue).backfill(
            "events", Request.between("2024-05-01", "2024-05-02")
        )
    assert not rows_or_none(tmp_path)


def test_a_new_stream_binds_its_queue_to_the_exchange_of_its_publishers(
    rabbit: Broker, queue: str, tmp_path: Path, spark: SparkSession
) -> None:
    with rabbit.channel() as channel:  # as publishers that know nothing of it declared theirs
        channel.exchange_declare("orders", exchange_type="topic", arguments={"alternate-exchange": "rest"})
    binding = "\n    exchange: {name: orders, type: topic, routing_keys: [eu.#]}"
    engine = engine_of(tmp_path, spark, rabbit, queue, more=binding)
    # What a bootstrap would do is asked, and neither makes the queue nor binds it.
    assert engine.foresee_bootstrap("events").ends == {"events": "nothing yet"}
    declare(rabbit, queue)
    send(rabbit, queue, range(7))
    assert engine.foresee_bootstrap("events").rows == 7
    with pytest.raises(PublishError):
        send(rabbit, queue, range(7, 8), exchange="orders", routing_key="eu.new")
    delete(rabbit, queue)

    run(engine)
    send(rabbit, queue, range(5), exchange="orders", routing_key="eu.new")
    with rabbit.channel() as channel:
        channel.basic_publish("orders", "us.new", b"for another")
    run(engine)
    assert held(tmp_path) == wanted(range(5))


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Does the work in a thread of its own while the block lasts; raises what it raised."""
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        yield
        working.result(60)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.05)


def until_taken(send: Callable[[], None]) -> None:
    """A broker takes logins a moment before the stream takes records; one that is returned is not in it."""

    def taken() -> bool:
        with suppress(PublishError):
            send()
            return True
        return False

    until(taken)


def rows_or_none(folder: Path) -> list[dict[str, Any]]:
    table = folder / "data/events"
    return rows(table) if table_version(table) >= 0 else []
