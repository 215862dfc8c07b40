"""A broker that wants TLS and a login, and one that goes away: on a real one, on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.services.kafka import Kafka
from tidemill import Engine
from tidemill.errors import SendError, SourceError
from tidemill.model import Trigger
from tidemill.protocol import Point, listening

pytestmark = pytest.mark.spark

START = datetime(2024, 5, 1, tzinfo=UTC)
PIPELINE = """
name: events
source:
  kafka: {{servers: "{servers}", topics: [{topic}], schema: "id BIGINT, at TIMESTAMP", max_offsets_per_batch: 5,
           options: {options}}}
event_time: {{column: at}}
interval: day
sink:
  delta: {{path: data/events}}
  kafka: {{servers: "{servers}", topic: {topic}_out, options: {out}}}
"""
_LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required username={user} password={password};"
)
SECURE = {
    "kafka.security.protocol": "SASL_SSL",
    "kafka.sasl.mechanism": "PLAIN",
    "kafka.sasl.jaas.config": "${env:KAFKA_LOGIN}",
    "kafka.ssl.truststore.location": "${env:KAFKA_TRUST}",
    "kafka.ssl.truststore.password": "${env:KAFKA_TRUST_PASSWORD}",
    "kafka.ssl.truststore.type": "PKCS12",
}


def engine_of(
    folder: Path,
    spark: SparkSession,
    servers: str,
    topic: str,
    options: dict[str, str],
    out: dict[str, str] | None = None,
) -> Engine:
    (folder / "conf/pipelines").mkdir(parents=True, exist_ok=True)
    told = {"options": json.dumps(options), "out": json.dumps(out or {})}
    text = PIPELINE.format(servers=servers, topic=topic, **told)
    (folder / "conf/pipelines/events.yml").write_text(text)
    return Engine(folder, spark=spark)


def send(kafka: Kafka, topic: str, numbers: range) -> None:
    events = [{"id": n, "at": (START + timedelta(hours=n)).isoformat()} for n in numbers]
    kafka.produce(topic, [json.dumps(event) for event in events])


def run(engine: Engine) -> Any:
    (outcome,) = engine.run("events", trigger=Trigger(available_now=True))
    if outcome.error is not None:
        raise outcome.error
    return outcome


def held(folder: Path) -> list[int]:
    return sorted(row["id"] for row in rows(folder / "data/events"))


def sent(spark: SparkSession, kafka: Kafka, topic: str) -> list[int]:
    reader = spark.read.format("kafka").option("kafka.bootstrap.servers", kafka.servers)
    found = reader.option("subscribe", topic).option("includeHeaders", "true").load().collect()
    ids = {row.headers[0].value: json.loads(row.value)["id"] for row in found}
    return sorted(ids.values())


def test_a_login_over_tls_reads_and_sends_and_no_secret_is_written_anywhere(
    kafka: Kafka,
    topic: str,
    tmp_path: Path,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KAFKA_LOGIN", _LOGIN.format(user=kafka.user, password=kafka.password))
    monkeypatch.setenv("KAFKA_TRUST", str(kafka.trust))
    monkeypatch.setenv("KAFKA_TRUST_PASSWORD", kafka.password)
    kafka.create(f"{topic}_out")
    send(kafka, topic, range(8))
    engine = engine_of(tmp_path, spark, kafka.secure, topic, SECURE, SECURE)
    run(engine)
    assert held(tmp_path) == list(range(8))
    assert sent(spark, kafka, f"{topic}_out") == list(range(8))
    assert engine.verify("events").holds
    shown = "".join(capfd.readouterr()) + repr(engine.project) + repr(engine.plan("events"))
    written = (path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert kafka.password not in shown
    assert not any(kafka.password.encode() in each for each in written)


WRONG = {"user": "tidemill", "password": "hunter2"}
_BROKEN = {
    "password": (
        {},
        {"KAFKA_LOGIN": _LOGIN.format(**WRONG)},
        "the login is refused",
    ),
    "trust": ({"kafka.ssl.truststore.location": "${env:JAVA_TRUST}"}, {}, "no TLS with Kafka"),
    "store": ({"kafka.ssl.truststore.location": "/nowhere"}, {}, "the options do not make a client"),
    "jaas": ({}, {"KAFKA_LOGIN": "x.LoginModule hunter2"}, "the options do not make a client"),
    "plain": ({"kafka.security.protocol": "SASL_PLAINTEXT"}, {}, "no answer from Kafka"),
}


@pytest.mark.parametrize("what", _BROKEN)
def test_what_a_broker_refuses_is_said_soon_and_without_secrets(
    kafka: Kafka, tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    changed, variables, message = _BROKEN[what]
    login = _LOGIN.format(user=kafka.user, password=kafka.password)
    known = {"KAFKA_LOGIN": login, "KAFKA_TRUST": str(kafka.trust), "KAFKA_TRUST_PASSWORD": kafka.password}
    for name, value in (known | {"JAVA_TRUST": _java_trust()} | variables).items():
        monkeypatch.setenv(name, value)
    options = SECURE | changed | {"kafka.default.api.timeout.ms": "3000", "kafka.request.timeout.ms": "2000"}
    if what == "trust":
        options["kafka.ssl.truststore.password"] = "changeit"
    engine = engine_of(tmp_path, spark, kafka.secure, "any", options)
    began = time.monotonic()
    with pytest.raises(SourceError, match=f"{message}.* {kafka.secure}") as raised:
        run(engine)
    assert time.monotonic() - began < 10
    assert not any(secret in str(raised.value) for secret in (kafka.password, "hunter2"))


def _java_trust() -> str:
    """The store of those whom the JVM trusts by itself."""
    from tidemill.execution.java import usable_java

    return str(Path(usable_java()[0]).resolve().parent.parent / "lib/security/cacerts")


@contextmanager
def killed_at(kafka: Kafka, point: Point, *, back_after: float | None) -> Iterator[None]:
    """Kill the broker where a run first passes a point; start it again ``back_after`` seconds, or at the end."""
    threads: list[threading.Timer] = []
    gone = threading.Event()

    def kill(at: Point) -> None:
        if at is point and not gone.is_set():
            gone.set()
            kafka.stop()
            if back_after is not None:
                threads.append(threading.Timer(back_after, kafka.start))
                threads[0].start()

    try:
        with listening(kill):
            yield
        assert gone.is_set()
    finally:
        for each in threads:
            each.join()
        if not threads:
            kafka.start()


def test_a_broker_that_is_gone_is_waited_for_and_named_and_nothing_is_lost(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    kafka.create(f"{topic}_out")
    send(kafka, topic, range(10))
    engine = engine_of(tmp_path, spark, kafka.servers, topic, {})
    with killed_at(kafka, Point.BATCH_PUBLISHED, back_after=3):
        run(engine)  # two batches: it goes on when the broker is back
    assert held(tmp_path) == list(range(10))
    assert sent(spark, kafka, f"{topic}_out") == list(range(10))

    # For good, while it reads: no longer than it is told to wait.
    send(kafka, topic, range(10, 20))
    impatient = {
        "kafkaConsumer.pollTimeoutMs": "2000",
        "kafka.default.api.timeout.ms": "2000",
        "kafka.request.timeout.ms": "1000",
        "fetchOffset.numRetries": "1",
    }
    short = {
        "kafka.delivery.timeout.ms": "2000",
        "kafka.request.timeout.ms": "1000",
        "kafka.max.block.ms": "2000",
    }
    engine = engine_of(tmp_path, spark, kafka.servers, topic, impatient, short)
    with (
        killed_at(kafka, Point.ROWS_SENT, back_after=None),
        pytest.raises(SourceError, match="does not answer"),
    ):
        run(engine)
    # And while it sends.
    with killed_at(kafka, Point.COMMITTED, back_after=None), pytest.raises(SendError, match=f"{topic}_out"):
        run(engine)
    run(engine)
    assert held(tmp_path) == list(range(20))
    assert sent(spark, kafka, f"{topic}_out") == list(range(20))
