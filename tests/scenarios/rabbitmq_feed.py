"""Events over RabbitMQ, for tests: what is sent, the pipeline that reads it, and what its table holds."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.services.rabbitmq import Broker
from tidemill import Engine
from tidemill.model import Trigger
from tidemill.sources.rabbitmq_options import RabbitOptions, rabbit_options
from tidemill.sources.rabbitmq_publish import Message, publish

START = datetime(2024, 5, 1, tzinfo=UTC)
TEN_MINUTES = timedelta(minutes=10)
EVENTS = """
name: events
source:
  rabbitmq:
    url: {url}
    queue: {queue}
    schema: "id BIGINT NOT NULL, at TIMESTAMP, v BIGINT"
    with: [message_id]
    max_records_per_batch: {most}
    records_per_task: 10
    reconnect_attempts: {attempts}
    reconnect_seconds: {attempts}{more}
event_time: {{column: at}}
interval: day
gate: {{max_removed: null}}
transform: {transform}
sink: {{delta: {{path: data/events}}}}
"""
TIMES = 'sql: "SELECT id, at, v * {factor} AS v, message_id FROM events"'
SMALL_SEGMENTS = {"x-stream-max-segment-size-bytes": 20_000}


def options(broker: Broker, queue: str, **more: str) -> RabbitOptions:
    return rabbit_options({**broker.options, "queue": queue, **more})


def declare(broker: Broker, queue: str, arguments: dict[str, int] | None = None) -> None:
    with broker.channel() as channel:
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "stream", **(arguments or {})})


def delete(broker: Broker, queue: str) -> None:
    with broker.channel() as channel:
        channel.queue_delete(queue)


def event(number: int, every: timedelta = TEN_MINUTES) -> dict[str, Any]:
    return {"id": number, "at": (START + every * number).isoformat(), "v": number}


def send(broker: Broker, queue: str, numbers: range, *, every: timedelta = TEN_MINUTES, **where: str) -> None:
    messages = [Message(json.dumps(event(n, every)).encode(), message_id=f"m{n}") for n in numbers]
    publish(options(broker, queue), messages, **where)


def engine_of(
    folder: Path, spark: SparkSession, broker: Broker, queue: str, text: str = EVENTS, **parts: Any
) -> Engine:
    """The engine of a project whose one pipeline, ``events``, is ``text``."""
    given = {"url": broker.url, "queue": queue, "more": "", "factor": 1, "most": 25, "attempts": 2} | parts
    given = {"transform": "{" + TIMES.format(**given) + "}"} | given
    (folder / "conf/pipelines").mkdir(parents=True, exist_ok=True)
    (folder / "conf/pipelines/events.yml").write_text(text.format(**given))
    return Engine(folder, spark=spark)


def run(engine: Engine) -> Any:
    (outcome,) = engine.run("events", trigger=Trigger(available_now=True))
    if outcome.error is not None:
        raise outcome.error
    return outcome


def held(folder: Path) -> Counter[tuple[Any, ...]]:
    return Counter((row["id"], row["v"], row["message_id"]) for row in rows(folder / "data/events"))


def wanted(numbers: range, factor: int = 1) -> Counter[tuple[Any, ...]]:
    return Counter((n, n * factor, f"m{n}") for n in numbers)
