"""What of the RabbitMQ source needs no broker: its options, which gaps in the offsets are sound, and what values become."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pika.data
import pytest
from pika.spec import Basic, BasicProperties

from tidemill.errors import ConfigError, SourceError
from tidemill.sources.rabbitmq_options import Binding, rabbit_options
from tidemill.sources.rabbitmq_stream import _row, check_gap
from tidemill.sources.rabbitmq_values import moment_of, whole_headers


def test_names_of_options_know_no_case_and_the_rest_has_defaults():
    options = rabbit_options({"Queue": "orders", "START": "17"})

    assert (options.queue, options.start, options.port, options.vhost) == ("orders", 17, 5672, "/")
    assert options.binding is None


def test_no_patience_can_be_asked_for():
    options = rabbit_options({"queue": "orders", "reconnect_attempts": "0", "reconnect_seconds": "0"})

    assert (options.reconnect_attempts, options.reconnect_seconds) == (0, 0)


def test_the_password_is_in_no_text():
    options = rabbit_options({"queue": "orders", "password": "hunter2"})

    assert options.password == "hunter2"  # noqa: S105  # nobody's
    assert "hunter2" not in f"{options!r} {options} {options.where}"


@pytest.mark.parametrize(
    ("given", "binding"),
    [
        ({"exchange": "x"}, Binding("x", "fanout", ("",))),
        ({"exchange": "x", "declare_exchange": "true"}, Binding("x", "fanout", ("",), declare=True)),
        (
            {"exchange": "x", "exchange_type": "topic", "routing_keys": "a.#, b.*"},
            Binding("x", "topic", ("a.#", "b.*")),
        ),
    ],
)
def test_a_binding_has_its_keys(given, binding):
    assert rabbit_options({"queue": "orders", **given}).binding == binding


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "queue"),
        ({"queue": "q", "qeue": "q"}, "qeue"),
        ({"queue": "q", "port": "amqp"}, "port"),
        ({"queue": "q", "start": "last"}, "start"),
        ({"queue": "q", "max_records_per_batch": "0"}, "max_records_per_batch"),
        ({"queue": "q", "exchange": "x", "exchange_type": "headers"}, "exchange_type"),
        ({"queue": "q", "exchange": "x", "exchange_type": "topic"}, "routing_keys"),
        ({"queue": "q", "routing_keys": "a"}, "routing_keys"),
        ({"queue": "q", "exchange": "x", "declare_exchange": "perhaps"}, "declare_exchange"),
    ],
)
def test_a_wrong_option_is_named(given, named):
    with pytest.raises(ConfigError) as caught:
        rabbit_options(given)

    assert named in caught.value.message
    assert caught.value.next_step


def test_a_gap_behind_a_record_that_is_still_there_holds_nothing():
    check_gap("queue 'q'", 10, 11, first=9)


@pytest.mark.parametrize("first", [10, 11, None])
def test_a_gap_at_the_front_is_what_retention_took(first):
    with pytest.raises(SourceError) as caught:
        check_gap("queue 'q'", 10, 12, first=first)

    assert caught.value.params == {"first_lost": 10, "first_there": 12}
    assert "10 to 11" in caught.value.message


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
STAMPS = {
    None: None,
    0: datetime(1970, 1, 1, tzinfo=UTC),
    int(NOON.timestamp()): NOON,
    int(NOON.timestamp()) * 1000: None,  # milliseconds, as many a publisher has them
    253_402_300_799: datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    253_402_300_800: None,
    2**62: None,
    2**64 - 1: None,
}


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_time_stamp_that_no_calendar_has_is_none(stamp: int | None):
    assert moment_of(stamp) == STAMPS[stamp]


# Header by header: its kind and its bytes as a broker sends them, and the text that comes of it.
HEADERS: dict[str, tuple[bytes, str | None]] = {
    "seconds": (b"T" + struct.pack(">Q", int(NOON.timestamp())), "2024-05-01 12:00:00+00:00"),
    "milliseconds": (b"T" + struct.pack(">Q", 1_714_564_800_000), "1714564800000"),
    "greatest": (b"T" + b"\xff" * 8, str(2**64 - 1)),
    "double": (b"d" + struct.pack(">d", 3.7), "3.7"),
    "whole": (b"d" + struct.pack(">d", 3.0), "3"),
    "huge": (b"d" + struct.pack(">d", 2.0**70), str(2**70)),
    "small": (b"d" + struct.pack(">d", -1e-9), "-1e-09"),
    "nan": (b"d" + struct.pack(">d", float("nan")), "nan"),
    "inf": (b"d" + struct.pack(">d", float("-inf")), "-inf"),
    "float": (b"f" + struct.pack(">f", 0.25), "0.25"),
    "float inf": (b"f" + struct.pack(">f", float("inf")), "inf"),
    "long": (b"l" + struct.pack(">q", -5), "-5"),
    "text": (b"S" + struct.pack(">I", 2) + b"ab", "ab"),
    "bytes": (b"x" + struct.pack(">I", 2) + b"a\xff", "a\ufffd"),
    "void": (b"V", None),
}


def table(entries: dict[bytes, bytes]) -> bytes:
    body = b"".join(bytes([len(name)]) + name + value for name, value in entries.items())
    return struct.pack(">I", len(body)) + body


def received(headers: bytes, **properties: Any) -> Any:
    """A message as the client hands it on: properties that went over the line, with these bytes as its headers."""
    encoded = b"".join(BasicProperties(headers={}, **properties).encode())
    assert encoded[2:6] == table({}), "the headers are what comes first"
    return BasicProperties().decode(encoded[:2] + headers + encoded[6:])


def test_no_header_ends_a_stream_and_none_is_changed():
    offset = {b"x-stream-offset": b"l" + struct.pack(">q", 17)}
    entries = {name.encode(): value for name, (value, _) in HEADERS.items()}
    nested = {b"in\xff": b"F" + table({b"d": HEADERS["double"][0], b"t": HEADERS["milliseconds"][0]})}
    many = b"A" + struct.pack(">I", 18) + HEADERS["double"][0] + HEADERS["nan"][0]

    with whole_headers(pika.data):
        properties = received(table({**offset, **entries, **nested, b"many": many}), timestamp=2**62)
    row = _row(Basic.Deliver(exchange="x", routing_key=b"\xff"), properties, b"body")

    assert row[4] == {name: text for name, (_, text) in HEADERS.items()} | {
        "in\ufffd": '{"d": 3.7, "t": 1714564800000}',
        "many": "[3.7, NaN]",
    }
    assert (*row[:4], *row[5:]) == (17, "x", "\ufffd", None, None, b"body")


def test_others_who_use_the_client_see_no_difference():
    with whole_headers(pika.data), whole_headers(pika.data):
        pass

    assert pika.data.decode_value(HEADERS["double"][0], 0) == (3, 9)
    with pytest.raises(ValueError, match="NaN"):
        pika.data.decode_value(HEADERS["nan"][0], 0)
