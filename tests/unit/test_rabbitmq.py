"""What of the RabbitMQ source needs no broker: its options, and which gaps in the offsets are sound."""

from __future__ import annotations

import pytest

from tidemill.errors import ConfigError, SourceError
from tidemill.sources.rabbitmq_options import Binding, rabbit_options
from tidemill.sources.rabbitmq_stream import check_gap


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
