"""A real Kafka broker for tests: one node, KRaft, on loopback, on ports that are free, from pinned jars.

    with broker(spark) as kafka:
        kafka.create("events", partitions=2)
        kafka.produce("events", ["{...}"], partition=0)

It starts in seconds, is stopped by its own process id, and leaves no data behind. Topics are made, and records sent,
through the clients in the JVM of the Spark session: no further package is needed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from py4j.java_gateway import JavaMember  # type: ignore[import-untyped]
from py4j.protocol import STATIC_PREFIX  # type: ignore[import-untyped]
from pyspark.sql import SparkSession

from tidemill.errors import TidemillError
from tidemill.execution import jars
from tidemill.execution.java import usable_java

_LOCK = Path(__file__).with_name("kafka.lock")
_WITHIN = 60.0  # seconds, to start, to stop and for any answer

USER, PASSWORD = "tidemill", "correct-horse-battery"

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
ssl.keystore.location={folder}/broker.p12
ssl.keystore.password={password}
ssl.keystore.type=PKCS12
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_{user}="{password}";
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
# One that was killed can register again only once its old session has ended.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
log.cleaner.enable=false
"""


class BrokerDidNotStart(Exception):
    """The message says how it failed, with the end of the broker's log."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker that is up. ``servers`` is what clients are told, ``secure`` what those are told who log in over TLS.

    ``trust``: a trust store that knows the broker's certificate, and ``password`` what opens it; ``user`` may log in.
    """

    servers: str
    secure: str
    trust: Path
    _server: _Server
    _spark: SparkSession
    user: str = USER
    password: str = PASSWORD

    def stop(self) -> None:
        """Kill the broker; what it holds stays on disk."""
        self._server.stop()

    def start(self) -> None:
        """Start it again, at the same addresses, with what it held; it is up when this returns."""
        self._server.start()

    def create(self, topic: str, *, partitions: int = 1, **settings: str) -> None:
        """Make a topic; it is there when this returns. ``settings``: of the topic, ``_`` for ``.``."""
        jvm: Any = self._spark._jvm
        new = jvm.org.apache.kafka.clients.admin.NewTopic(topic, partitions, 1)
        new.configs({name.replace("_", "."): value for name, value in settings.items()})
        with self._admin() as admin:
            admin.createTopics([new]).all().get()

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions; they are there when this returns."""
        jvm: Any = self._spark._jvm
        to = jvm.org.apache.kafka.clients.admin.NewPartitions.increaseTo(partitions)
        with self._admin() as admin:
            admin.createPartitions({topic: to}).all().get()

    def delete(self, topic: str) -> None:
        """Delete a topic; no client sees it when this returns."""
        with self._admin() as admin:
            admin.deleteTopics([topic]).all().get()
            end = time.monotonic() + _WITHIN
            while admin.listTopics().names().get().contains(topic):
                assert time.monotonic() < end, f"{topic} is still there"

    def forget(self, topic: str, partition: int, before: int) -> None:
        """Delete the records below an offset, as retention does."""
        jvm: Any = self._spark._jvm
        at = jvm.org.apache.kafka.common.TopicPartition(topic, partition)
        # There is an instance method of that name, too, and py4j finds no static one behind it.
        name = f"{STATIC_PREFIX}org.apache.kafka.clients.admin.RecordsToDelete"
        to = JavaMember("beforeOffset", None, name, jvm._gateway_client)(before)
        with self._admin() as admin:
            admin.deleteRecords({at: to}).all().get()

    def produce(
        self,
        topic: str,
        values: Iterable[str | bytes | None],
        *,
        partition: int = 0,
        keys: Sequence[str] = (),
        times: Sequence[int] = (),
        transaction: str | None = None,
    ) -> None:
        """Send records, in order; all are there when this returns. ``transaction``: in one, of this name.

        ``times``: when they were made, in epoch milliseconds; else now.
        """
        settings: dict[str, str] = {"linger.ms": "0"}
        if transaction is not None:
            settings |= {"transactional.id": transaction}
        jvm: Any = self._spark._jvm
        writers = "org.apache.kafka.common.serialization.ByteArraySerializer"
        settings |= {"key.serializer": writers, "value.serializer": writers}
        record = jvm.org.apache.kafka.clients.producer.ProducerRecord
        producer = jvm.org.apache.kafka.clients.producer.KafkaProducer(self._properties(settings))
        try:
            if transaction is not None:
                producer.initTransactions()
                producer.beginTransaction()
            sent = []
            for number, value in enumerate(values):
                key = keys[number].encode() if keys else None
                body = value.encode() if isinstance(value, str) else value
                when = times[number] if times else None
                sent.append(producer.send(record(topic, partition, when, key, body)))
            if transaction is not None:
                producer.commitTransaction()
            producer.flush()
            for each in sent:
                each.get()
        finally:
            producer.close()

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        jvm: Any = self._spark._jvm
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(self._properties({}))
        try:
            yield admin
        finally:
            admin.close()

    def _properties(self, settings: Mapping[str, str]) -> Any:
        found = self._spark._jvm.java.util.Properties()  # type: ignore[union-attr]
        for name, value in ({"bootstrap.servers": self.servers} | dict(settings)).items():
            found.setProperty(name, value)
        return found


@contextmanager
def broker(spark: SparkSession) -> Iterator[Kafka]:
    """A broker of one's own. Raises :class:`BrokerDidNotStart` when it is not up within a minute."""
    folder = Path(tempfile.mkdtemp(prefix="tidemill-kafka-"))
    port, secure, controller = _free_ports(3)
    server = _Server(folder)
    try:
        trust = _certificate(folder)
        server.format(port=port, secure=secure, controller=controller)
        server.start()
        yield Kafka(f"127.0.0.1:{port}", f"127.0.0.1:{secure}", trust, server, spark)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def fetched() -> list[Path]:
    """The broker's jars, fetched first if they are not there."""
    return jars.fetch(jars.folder() / "kafka", lock=jars.parse_lock(_LOCK.read_text(encoding="utf-8")))


class _Server:
    """The broker's process, and the folder of all that it keeps."""

    def __init__(self, folder: Path) -> None:
        java, _ = usable_java()
        path = os.pathsep.join(map(str, fetched()))
        self._base = [
            str(java),
            *("-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-cp", path),
        ]
        self._folder, self._settings = folder, folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None

    def format(self, **ports: int) -> None:
        """Write its settings, and make its storage."""
        self._settings.write_text(
            _PROPERTIES.format(
                folder=self._folder, data=self._folder / "data", user=USER, password=PASSWORD, **ports
            )
        )
        log = self._folder / "format.log"
        command = [
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "dGlkZW1pbGwtdGVzdHMtMQ",
            "-c",
            str(self._settings),
        ]
        with log.open("wb") as out:
            ran = subprocess.run(
                [*self._base, *command], stdout=out, stderr=out, timeout=_WITHIN, check=False
            )
        if ran.returncode != 0:
            raise BrokerDidNotStart(f"its storage could not be formatted:\n{_end_of(log)}")

    def start(self) -> None:
        log = self._folder / "broker.log"
        with log.open("wb") as out:
            command = [*self._base, "kafka.Kafka", str(self._settings)]
            process = self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=self._folder)
        end = time.monotonic() + _WITHIN
        while "Kafka Server started" not in log.read_text(errors="replace"):
            if process.poll() is not None:
                raise BrokerDidNotStart(f"it ended with code {process.returncode}:\n{_end_of(log)}")
            if time.monotonic() > end:
                raise BrokerDidNotStart(f"it was not up within {_WITHIN:.0f} s:\n{_end_of(log)}")
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue

    def stop(self) -> None:
        """Kill it: what it confirmed is in its files, or has no need to be."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_WITHIN)


def _certificate(folder: Path) -> Path:
    """Make the broker's key and certificate, for loopback; give the store, which clients may trust as well."""
    java, _ = usable_java()
    store = folder / "broker.p12"
    command = [str(Path(java).with_name("keytool")), "-genkeypair", "-alias", "broker", "-keyalg", "EC"]
    command += ["-dname", "CN=tidemill-tests", "-ext", "san=ip:127.0.0.1", "-validity", "2"]
    command += ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", PASSWORD]
    subprocess.run(command, check=True, capture_output=True, timeout=_WITHIN)
    return store


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def main() -> int:
    """Fetch the broker's jars; exit code 2 with the reason on stderr if they cannot be had."""
    try:
        found = fetched()
    except TidemillError as problem:
        sys.stderr.write(f"tidemill: {problem}\n")
        return problem.exit_code
    sys.stdout.write(f"a Kafka broker: {len(found)} jars\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
