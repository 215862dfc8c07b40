"""A topic that is sent what a live stream appends to its table."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr, field_validator

from tidemill.model.base import Frozen, check_client_options

_OWNED = {
    "kafka.bootstrap.servers": "servers",
    "kafka.acks": "nothing: a row is sent when all replicas have it",
    "kafka.enable.idempotence": "nothing: a retry of the client is to make no second record",
    "kafka.key.serializer": "nothing: keys are texts",
    "kafka.value.serializer": "nothing: values are JSON",
}


class TopicSink(Frozen):
    """A topic of Kafka. A value is one row as JSON; the header ``tidemill-id`` tells a row that is sent again.

    ``key``: columns that make the record's key; of one its text, of several a JSON object. ``options``: of Kafka's
    clients, ``kafka.security.protocol`` and so on; never shown.
    """

    servers: str = Field(min_length=1)
    topic: str
    key: tuple[str, ...] = ()
    options: dict[str, SecretStr] = Field(default_factory=dict)

    @field_validator("topic")
    @classmethod
    def _topic_is_one(cls, value: str) -> str:
        if not re.fullmatch(r"[\w.-]{1,249}", value, re.ASCII):
            msg = "a topic's name is made of letters, digits, '.', '_' and '-'"
            raise ValueError(msg)
        return value

    @field_validator("options")
    @classmethod
    def _options_are_of_clients(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        check_client_options(value, _OWNED)
        return value
