"""Avro values with a registry's header, on a real broker: each is decoded with its writer's schema, or set aside."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.processes import rows
from tests.services.kafka import Kafka
from tidemill import Engine
from tidemill.errors import ConfigError, SourceError
from tidemill.ledger.judge import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request

pytestmark = pytest.mark.spark

START = datetime(2024, 5, 1, tzinfo=UTC)
PIPELINE = """
name: clicks
source:
  kafka:
    servers: {servers}
    topics: [{topic}]
    format: avro
    schema: conf/click.avsc
    registry: {registry}
    with: [offset]
    max_offsets_per_batch: 4
event_time: {{column: at}}
interval: day
sink: {{delta: {{path: data/clicks}}}}
"""
_AT = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
_ID = {"name": "id", "type": "long"}


def avro(*fields: dict[str, Any]) -> str:
    return json.dumps({"type": "record", "name": "Click", "fields": list(fields)})


READER = avro(_ID, _AT, {"name": "user", "type": "string", "default": "?"})
FIRST = avro(_ID, _AT)
SECOND = avro({"name": "id", "type": "int"}, {"name": "user", "type": "string"}, _AT)
OTHER = avro({"name": "id", "type": "string"}, _AT)


def number(value: int) -> bytes:
    """An int or a long, as Avro writes them: zigzag, seven bits a byte."""
    rest, out = (value << 1) ^ (value >> 63), bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*out, rest])


def text(value: str) -> bytes:
    return number(len(value.encode())) + value.encode()


def framed(schema: int, body: bytes) -> bytes:
    return b"\0" + schema.to_bytes(4, "big") + body


def at(nth: int) -> datetime:
    return START + timedelta(hours=6 * nth)


def first(nth: int, schema: int = 1) -> bytes:
    return framed(schema, number(nth) + number(int(at(nth).timestamp() * 1000)))


def second(nth: int, user: str, schema: int = 2) -> bytes:
    return framed(schema, number(nth) + text(user) + number(int(at(nth).timestamp() * 1000)))


@dataclass
class Registry:
    """A registry's server: what it has, which ids it was asked for, and how it behaves."""

    url: str
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    failing: int = 0
    login: str | None = None


@contextmanager
def registry_server() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nth = int(self.path.removeprefix("/schemas/ids/"))
            found.asked.append(nth)
            code, body = 200, found.schemas.get(nth)
            if found.login is not None and self.headers.get("Authorization") != found.login:
                code, body = 401, {"error_code": 401}
            elif found.failing:
                found.failing -= 1
                code, body = 503, {}
            elif body is None:
                code, body = 404, {"error_code": 40403, "message": "Schema not found"}
            told = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Registry(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def engine_of(
    folder: Path, spark: SparkSession, kafka: Kafka, topic: str, registry: str, reader: str = READER
) -> Engine:
    (folder / "conf/pipelines").mkdir(parents=True, exist_ok=True)
    (folder / "conf/click.avsc").write_text(reader)
    text = PIPELINE.format(servers=kafka.servers, topic=topic, registry=registry)
    (folder / "conf/pipelines/clicks.yml").write_text(text)
    return Engine(folder, spark=spark)


def run(engine: Engine) -> Any:
    (outcome,) = engine.run("clicks", trigger=Trigger(available_now=True))
    if outcome.error is not None:
        raise outcome.error
    return outcome


def held(folder: Path) -> dict[int, tuple[Any, ...]]:
    found = rows(folder / "data/clicks")
    held = {row["id"]: (row["at"].astimezone(UTC), row["user"]) for row in found}
    assert len(held) == len(found), "a row stands twice"
    return held


def aside(folder: Path) -> dict[str, tuple[str, str]]:
    return {
        row["file"]: (row["reasons"][0], row["record"]) for row in rows(folder / "data/clicks_quarantine")
    }


def test_each_value_is_read_with_its_writers_schema_into_the_pipelines(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "1.avsc").write_text(FIRST)
    (folder / "2.avsc").write_text(SECOND)
    kafka.produce(topic, [first(0), second(1, "ada"), first(2), second(3, "bob")])
    engine = engine_of(tmp_path, spark, kafka, topic, "{path: registry}")
    run(engine)
    assert held(tmp_path) == {0: (at(0), "?"), 1: (at(1), "ada"), 2: (at(2), "?"), 3: (at(3), "bob")}

    # The pipeline's own schema moves on: other code. The registry is not needed for history.
    (folder / "2.avsc").unlink()
    moved = avro(_ID, _AT, {"name": "user", "type": ["null", "string"], "default": None})
    engine = engine_of(tmp_path, spark, kafka, topic, "{path: registry}", moved)
    engine.backfill("clicks", Request(states=frozenset({State.STALE})))
    assert held(tmp_path) == {0: (at(0), None), 1: (at(1), "ada"), 2: (at(2), None), 3: (at(3), "bob")}
    assert engine.verify("clicks").holds


def test_a_new_id_is_learnt_in_the_batch_that_brings_it(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    with registry_server() as registry:
        registry.schemas = {1: {"schema": FIRST}, 2: {"schema": SECOND}}
        registry.failing = 2  # it answers at the third attempt
        kafka.produce(topic, [*(first(n) for n in range(6)), *(second(n, "ada") for n in range(6, 10))])
        engine = engine_of(tmp_path, spark, kafka, topic, f'{{url: "{registry.url}"}}')
        run(engine)
        assert held(tmp_path) == {n: (at(n), "?" if n < 6 else "ada") for n in range(10)}
        assert set(engine.coverage("clicks").in_state(State.CLEAN)) == {
            f"2024-05-0{day}" for day in (1, 2, 3)
        }
    # What is known is not asked for again; nor is what no registry can have: this one is gone by now.
    assert registry.asked == [1, 1, 1, 2]
    kafka.produce(topic, [second(10, "eve"), framed(2**31, b"a")])
    run(engine)
    assert held(tmp_path)[10] == (at(10), "eve")
    assert {why for why, _ in aside(tmp_path).values()} == {"schema id 2147483648 is not in the registry"}
    assert engine.verify("clicks").holds


def test_a_schema_that_comes_late_makes_its_intervals_stale_and_lets_its_records_in(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    with registry_server() as registry:
        registry.schemas = {1: {"schema": FIRST}}
        kafka.produce(topic, [first(0), second(1, "ada"), first(4)])
        engine = engine_of(tmp_path, spark, kafka, topic, f'{{url: "{registry.url}"}}')
        run(engine)
        assert held(tmp_path).keys() == {0, 4}
        assert [reason for reason, _ in aside(tmp_path).values()] == ["schema id 2 is not in the registry"]

        # As long as the registry does not have it, nothing is released.
        assert engine.release(engine.releasable("clicks", reason="schema id 2")).released == 0
        assert engine.coverage("clicks").in_state(State.STALE) == ()

        registry.schemas[2] = {"schema": SECOND}
        # What comes from then on is read, and what was written before is stale: it lacks a row.
        kafka.produce(topic, [second(5, "bob")])
        run(engine)
        assert held(tmp_path).keys() == {0, 4, 5}
        assert "2024-05-01" in engine.coverage("clicks").in_state(State.STALE)
        released = engine.release(engine.releasable("clicks", reason="schema id 2"))
    assert (released.released, released.held) == (1, 0)
    assert held(tmp_path) == {0: (at(0), "?"), 1: (at(1), "ada"), 4: (at(4), "?"), 5: (at(5), "bob")}
    assert aside(tmp_path) == {}
    assert "2024-05-01" in engine.coverage("clicks").in_state(State.CLEAN)
    assert engine.verify("clicks").holds


def test_what_cannot_be_decoded_is_set_aside_as_it_came(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession
) -> None:
    registry = {"1": json.loads(FIRST), "2": SECOND, "3": OTHER, "4": "no schema"}
    (tmp_path / "registry.json").write_text(json.dumps(registry))
    bad = {
        b'{"id": 1, "at": 5}': "no header of a schema registry",
        b"": "no header of a schema registry",
        b"\0\0\0": "no header of a schema registry",
        first(3)[:-2]: "not a record of schema id 1",
        # A text that claims two gigabytes: nothing is to make room for it.
        framed(2, number(1) + number(2**31 - 100) + b"x"): "not a record of schema id 2",
        framed(3, text("a") + number(0)): "schema id 3 cannot be read: ",
        framed(4, b"a"): "schema id 4 cannot be read: ",
        framed(2**32 - 1, b"a"): "schema id 4294967295 is not in the registry",
    }
    kafka.produce(topic, [first(0), *bad, None, first(8)])
    engine = engine_of(tmp_path, spark, kafka, topic, "{path: registry.json}")
    run(engine)
    assert held(tmp_path).keys() == {0, 8}
    found = aside(tmp_path)
    assert found.pop(f"{topic}/0/9") == ("no value", "base64:")
    assert len(found) == len(bad)
    for nth, (value, reason) in enumerate(bad.items(), start=1):
        why, record = found[f"{topic}/0/{nth}"]
        assert why.startswith(reason)
        assert base64.b64decode(record.removeprefix("base64:")) == value
    assert engine.verify("clicks").holds


def test_a_registry_that_cannot_be_asked_stops_the_run(
    kafka: Kafka, topic: str, tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.sources.registry._PAUSES", (0.01, 0.01))
    monkeypatch.setenv("REGISTRY_PASSWORD", "hunter2")
    kafka.produce(topic, [first(0)])
    with registry_server() as registry:
        registry.schemas, registry.failing = {1: {"schema": FIRST}}, 3
        place = f'{{url: "{registry.url}", user: ada, password: "${{env:REGISTRY_PASSWORD}}"}}'
        engine = engine_of(tmp_path, spark, kafka, topic, place)
        with pytest.raises(SourceError, match=f"the schema registry at {registry.url}: it answers 503"):
            run(engine)
        registry.login = "Basic something else"
        with pytest.raises(SourceError, match="it answers 401") as raised:
            run(engine)
        assert "hunter2" not in f"{raised.value} {raised.value.params} {engine.project}"
        registry.login = "Basic YWRhOmh1bnRlcjI="
        run(engine)
        assert held(tmp_path).keys() == {0}
    kafka.produce(topic, [second(1, "ada")])
    with pytest.raises(SourceError, match=f"the schema registry at {registry.url}: no answer"):
        run(engine)
    assert held(tmp_path).keys() == {0}
    assert not (tmp_path / "data/clicks_quarantine").exists()
    (tmp_path / "registry").mkdir()
    with pytest.raises(ConfigError, match=r"the Avro schema of .* cannot be used"):
        run(engine_of(tmp_path, spark, kafka, topic, "{path: registry}", '{"type": "string"}'))
