"""Where a pipeline's rows come from."""

from __future__ import annotations

import posixpath
import re
from typing import ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from tidemill.model.archive import ArchiveOrName
from tidemill.model.base import Duration, Frozen, check_client_options
from tidemill.model.rabbitmq import RabbitSource
from tidemill.model.records import RecordSource
from tidemill.model.registry import Registry

_KAFKA_TUNING = (
    "fetchOffset.numRetries",
    "fetchOffset.retryIntervalMs",
    "groupIdPrefix",
    "kafkaConsumer.pollTimeoutMs",
    "maxPartitions",
    "minPartitions",
)
_EARLIEST = -2  # so Spark writes it
_KAFKA_OWNED = {
    "kafka.bootstrap.servers": "servers",
    "kafka.auto.offset.reset": "starting",
    "kafka.enable.auto.commit": "nothing: the position is kept in the checkpoint",
}


class EventTime(Frozen):
    """Which column says when an event happened, and how long stragglers are waited for.

    ``watermark`` is Spark's: without one a stateful transform is refused.
    """

    column: str
    watermark: Duration | None = None


class FilesSource(Frozen):
    """A folder of event files; each is immutable once it has its final name.

    ``schema`` is DDL (``id STRING, at TIMESTAMP``), or the path of a Spark schema in JSON; parquet may
    leave it out. ``max_files_per_batch`` bounds a live batch. Names that begin with ``_`` or ``.`` are
    not read, so a writer publishes a file by renaming it.
    """

    path: str
    format: Literal["json", "csv", "parquet"]
    row_schema: str | None = Field(default=None, alias="schema")
    options: dict[str, str] = Field(default_factory=dict)
    max_files_per_batch: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _text_needs_a_schema(self) -> FilesSource:
        if self.row_schema is None and self.format != "parquet":
            msg = f"a {self.format} source needs a schema: inference would change with the data"
            raise ValueError(msg)
        return self

    @property
    def mark(self) -> str:
        """What tells the source from others: its path."""
        return self.path if "://" in self.path else posixpath.normpath(self.path)


class DeltaSource(Frozen):
    """A Delta table: read live as a stream of appends, and as history at a version.

    Where the table is another pipeline's, a swap published there makes the intervals here that depend on
    it dirty.
    """

    path: str
    max_files_per_batch: int | None = Field(default=None, ge=1)

    @property
    def mark(self) -> str:
        """What tells the source from others: its path."""
        return self.path if "://" in self.path else posixpath.normpath(self.path)


MetaColumn = Literal["topic", "partition", "offset", "timestamp", "key", "headers"]
"""A column that Kafka has beside a record's value; ``timestamp`` is the broker's."""


class KafkaSource(RecordSource):
    """Topics of a Kafka broker, or of one that speaks its protocol; given by name, by a regular expression, or as some of
    their ``partitions``.

    ``avro``: a value is a record that begins with the id of its schema in the ``registry``, read as the Avro ``schema``.
    ``with``: ``key`` is bytes where the value is ``raw`` or ``avro``, else a text. ``starting``: where a new stream begins;
    an offset for each topic and partition, -2 for the earliest, -1 for the latest, or one of these words for all.
    ``max_offsets_per_batch`` bounds a live batch. ``options``: of Kafka's clients, ``kafka.security.protocol`` and so
    on; never shown. ``archive``: the pipeline that lands these topics' records, from whose table history is read.

    >>> KafkaSource(servers="127.0.0.1:9092", topics=("a", "b"), format="raw", columns=("timestamp",)).mark
    'Subscribe[a, b] at 127.0.0.1:9092'
    """

    kind: ClassVar[str] = "kafka"
    of_schema: ClassVar[frozenset[str]] = frozenset({"json", "avro"})

    servers: str = Field(min_length=1)
    topics: tuple[str, ...] = ()
    pattern: str | None = None
    partitions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    starting: Literal["earliest", "latest"] | dict[str, dict[int, int]] = "earliest"
    format: Literal["json", "avro", "string", "raw"] = "json"
    registry: Registry | None = None
    columns: tuple[MetaColumn, ...] = Field(default=(), alias="with")
    max_offsets_per_batch: int | None = Field(default=None, ge=1)
    options: dict[str, SecretStr] = Field(default_factory=dict)
    archive: ArchiveOrName | None = None

    @model_validator(mode="after")
    def _topics_pattern_or_partitions(self) -> KafkaSource:
        if sum((bool(self.topics), self.pattern is not None, bool(self.partitions))) != 1:
            msg = "name exactly one of: topics, pattern, partitions"
            raise ValueError(msg)
        if any(not re.fullmatch(r"[\w.-]{1,249}", topic, re.ASCII) for topic in self.named):
            msg = "a topic's name is made of letters, digits, '.', '_' and '-'; a regular expression is a pattern"
            raise ValueError(msg)
        if len(set(self.topics)) < len(self.topics):
            msg = "a topic stands twice in topics"
            raise ValueError(msg)
        for topic, parts in self.partitions.items():
            if not parts or len(set(parts)) < len(parts) or min(parts) < 0:
                msg = f"partitions of {topic}: name each once, 0 or greater"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _starts_are_of_what_is_read(self) -> KafkaSource:
        if isinstance(self.starting, str):
            return self
        if any(offset < _EARLIEST for each in self.starting.values() for offset in each.values()):
            msg = "an offset is 0 or greater, -2 for the earliest, -1 for the latest"
            raise ValueError(msg)
        if self.pattern is None and set(self.starting) != set(self.named):
            msg = f"starting names each topic that is read, with each of its partitions: {', '.join(self.named)}"
            raise ValueError(msg)
        for topic, parts in self.partitions.items():
            if set(self.starting[topic]) != set(parts):
                msg = f"starting names each partition of {topic} that is read: {', '.join(map(str, parts))}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _registry_of_avro(self) -> KafkaSource:
        if (self.registry is None) == (self.format == "avro"):
            msg = (
                "avro values need a registry: path (files) or url, where the schemas stand that they were written with"
                if self.registry is None
                else f"{self.format} values have no registry"
            )
            raise ValueError(msg)
        return self

    @field_validator("options")
    @classmethod
    def _options_are_of_clients(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        check_client_options(value, _KAFKA_OWNED, _KAFKA_TUNING)
        return value

    @property
    def mark(self) -> str:
        """What tells the source from others: Spark's own description, with the brokers."""
        if self.partitions:
            places = (f"{topic}-{part}" for topic, parts in self.partitions.items() for part in parts)
            what = f"Assign[{', '.join(sorted(places))}]"
        else:
            what = (
                f"SubscribePattern[{self.pattern}]"
                if self.pattern
                else f"Subscribe[{', '.join(self.topics)}]"
            )
        return f"{what} at {self.servers}"

    @property
    def named(self) -> tuple[str, ...]:
        """The topics that are named; none where a pattern finds them."""
        return self.topics or tuple(self.partitions)

    @property
    def isolation(self) -> str:
        """Whether records of transactions that were not committed are rows, too."""
        told = self.options.get("kafka.isolation.level")
        return told.get_secret_value() if told else "read_uncommitted"

    @property
    def name(self) -> str:
        """The topics, as a person reads them."""
        return f"topics like {self.pattern}" if self.pattern else ", ".join(self.named)


Source = FilesSource | DeltaSource | KafkaSource | RabbitSource


def is_factory(keys: str) -> bool:
    """Whether a store of keys is named as ``module:factory``; else it is a file's path.

    >>> is_factory("jobs.keys:vault"), is_factory("data/keys.db")
    (True, False)
    """
    return re.fullmatch(r"[\w.]+:\w+", keys) is not None


def is_part(field: str, other: str) -> bool:
    """Whether a field is another one, or a part of it.

    >>> is_part("data.name", "data"), is_part("data", "data.name"), is_part("database", "data")
    (True, False, False)
    """
    return f"{field}.".startswith(f"{other}.")


class Personal(Frozen):
    """Which columns of an input are a person's own, and where the persons' keys are.

    ``seal``: texts that are sealed with the key of the ``subject`` in their row before anything is written, the quarantine
    included. ``open``: texts that were sealed by a pipeline before this one. ``keys``: a file, or ``module:factory`` of a
    :class:`tidemill.erasure.KeyStore`. Each may be a field inside a column, of a struct or of a text of JSON:
    ``data.address.street``.
    """

    keys: str
    subject: str = ""
    seal: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    _root: str = PrivateAttr(default="")

    @property
    def root(self) -> str:
        """The folder of the project, below which a factory is looked for; "" where there is none."""
        return self._root

    def of_project(self, root: str) -> Self:
        """The same, of the project in this folder."""
        made = self.model_copy()
        made._root = root  # noqa: SLF001  its own, of a value that nobody has yet
        return made

    @model_validator(mode="after")
    def _one_of_both(self) -> Personal:
        if bool(self.seal) == bool(self.open):
            msg = "personal has either seal or open"
            raise ValueError(msg)
        if self.seal and not self.subject:
            msg = "personal.seal needs subject: the column that says whose a row is"
            raise ValueError(msg)
        for each in self.seal:
            if is_part(self.subject, each):
                msg = f"{self.subject} says whose a row is: it cannot be sealed"
                raise ValueError(msg)
        named = self.seal or self.open
        for each in (*named, *([self.subject] if self.subject else [])):
            if not all(each.split(".")):
                msg = f"{each!r} names no field: write COLUMN, or COLUMN.KEY.KEY"
                raise ValueError(msg)
        for each in named:
            whole = next((other for other in named if other != each and is_part(each, other)), None)
            if whole is not None or named.count(each) > 1:
                msg = f"personal names {each} {'within ' + whole if whole else 'twice'}: leave it out"
                raise ValueError(msg)
        return self


class Input(Frozen):
    """One named input of a pipeline: exactly one kind of source, with its own event time if it has one.

    ``static``: read whole, as it is when a batch or a backfill starts, and joined to the others. Its
    changes do not make intervals dirty.
    """

    files: FilesSource | None = None
    delta: DeltaSource | None = None
    kafka: KafkaSource | None = None
    rabbitmq: RabbitSource | None = None
    event_time: EventTime | None = None
    static: bool = False
    personal: Personal | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Input:
        kinds = (self.files, self.delta, self.kafka, self.rabbitmq)
        if sum(each is not None for each in kinds) != 1:
            msg = "name exactly one of: files, delta, kafka, rabbitmq"
            raise ValueError(msg)
        if self.static and isinstance(self.source, RecordSource):
            what = "a topic" if self.kafka is not None else "a stream"
            msg = f"{what} has no end up to which it could be read whole: land it in a table, and make that static"
            raise ValueError(msg)
        return self

    @property
    def source(self) -> Source:
        """The one source that is set."""
        return self.files or self.delta or self.kafka or self.rabbitmq  # type: ignore[return-value]  # the validator saw to it
