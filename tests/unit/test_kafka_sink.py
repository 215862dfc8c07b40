from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import parse_pipeline
from tidemill.config.fingerprint import fingerprint
from tidemill.errors import ConfigError, StateError
from tidemill.ledger import sent
from tidemill.sinks import topic

TOPIC: dict[str, Any] = {"servers": "broker:9092", "topic": "orders"}


def parsed(topic: dict[str, Any] | None, **table: Any) -> Any:
    values = {
        "name": "orders",
        "source": {"files": {"path": "in", "format": "json", "schema": "id BIGINT, at TIMESTAMP"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": "out", **table}, "kafka": topic},
    }
    return parse_pipeline(values, "project")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topic": "a b"}, "a topic's name is made of"),
        ({"options": {"kafka.acks": "1"}}, "is not an option here"),
        ({"options": {"acks": "all"}}, "is no option of a Kafka client"),
        ({"format": "json"}, "unknown key 'format'"),
    ],
)
def test_what_is_wrong_with_it_is_said(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as raised:
        parsed(TOPIC | changes)
    assert message in raised.value.message
    assert raised.value.params["field"].startswith("sink.kafka")


def test_upserts_are_not_sent():
    with pytest.raises(ConfigError, match="a topic is sent what is appended"):
        parsed(TOPIC, mode="upsert", key=["id"], order_by=["at"])


@pytest.mark.parametrize(
    ("options", "sent", "request_size", "buffer"),
    [
        ({}, 60_000_000, "60000000", "120000000"),
        ({"kafka.buffer.memory": "90000000"}, 60_000_000, "60000000", "90000000"),
        ({"kafka.buffer.memory": "50000000"}, 50_000_000, "50000000", "50000000"),
        ({"kafka.max.request.size": " 3000 "}, 3_000, " 3000 ", "33554432"),
        ({"kafka.max.request.size": "much"}, 60_000_000, "much", "120000000"),
    ],
)
def test_what_the_client_would_refuse_is_not_sent(
    options: dict[str, str], sent: int, request_size: str, buffer: str
):
    sink = parsed(TOPIC | {"options": options}).sink.kafka
    limit = topic.most_bytes(sink, 60_000_000)
    told = topic.client_options(sink, limit)
    assert limit == sent
    assert (told["kafka.max.request.size"], told["kafka.buffer.memory"]) == (request_size, buffer)
    assert told["kafka.acks"] == "all"


def test_where_rows_are_sent_does_not_decide_what_they_are():
    assert fingerprint(parsed(TOPIC), "project") == fingerprint(parsed(None), "project")


def test_what_was_sent_is_noted_by_topic_and_is_of_one_table(tmp_path: Path):
    table, state = str(tmp_path / "table"), str(tmp_path / "state")
    log = tmp_path / "table/_delta_log"
    log.mkdir(parents=True)
    for version in range(3):
        (log / f"{version:020d}.json").write_text(f"commit {version}")
    assert sent.read(state, table, "orders") is None
    sent.write(state, table, "orders", 1)
    sent.write(state, table, "others", 2)
    assert (sent.read(state, table, "orders"), sent.read(state, table, "others")) == (1, 2)
    (log / f"{1:020d}.json").write_text("another commit 1")
    with pytest.raises(StateError, match="version 1 of another table"):
        sent.read(state, table, "orders")
    (tmp_path / "state/sent.json").write_text(json.dumps({"orders": {}}))
    with pytest.raises(StateError, match="is damaged"):
        sent.read(state, table, "orders")
