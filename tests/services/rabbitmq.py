"""A RabbitMQ broker of the tests' own: on loopback, on free ports, in a folder that goes with it.

It shares nothing with a service of the distribution: its node name, port mapper, cookie, data, logs, configuration
and plugins are its own. Where it cannot start, tests fail and say why; none is skipped.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pika

START_SECONDS = 60
STOP_SECONDS = 30
_GIVEN: set[int] = set()
_ROOT = Path(__file__).resolve().parents[2]


def server_folder() -> Path:
    """Where the server's commands are; installs it where that can be done, fails with its advice otherwise."""
    done = subprocess.run(
        [str(_ROOT / "scripts/rabbitmq.sh")], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode != 0:
        raise RuntimeError(f"RabbitMQ cannot be started here: {done.stderr.strip()}")
    return Path(done.stdout.strip())


def free_port() -> int:
    """A port of loopback that nothing listens on, and no other call was given.

    It lies below those that systems give to outgoing connections: one of these may take such a port before the node does.
    """
    while True:
        port = secrets.choice(range(12_000, 32_000))
        if port in _GIVEN:
            continue
        _GIVEN.add(port)
        with socket.socket() as held, suppress(OSError):
            held.bind(("127.0.0.1", port))
            return port


@dataclass
class Broker:
    """One node; it may be stopped and started again, and keeps its ports and its data meanwhile."""

    folder: Path
    commands: Path
    port: int = field(default_factory=free_port)
    user: str = "tide"
    password: str = field(default_factory=lambda: secrets.token_hex(12))
    _mapper_port: int = field(default_factory=free_port)
    _distribution_port: int = field(default_factory=free_port)
    _stream_port: int = field(default_factory=free_port)
    _mapper: subprocess.Popen[bytes] | None = None
    _server: subprocess.Popen[bytes] | None = None

    @property
    def options(self) -> dict[str, str]:
        """The options of the source that reach this broker."""
        return {
            "host": "127.0.0.1",
            "port": str(self.port),
            "user": self.user,
            "password": self.password,
        }

    @property
    def url(self) -> str:
        """The address by which a pipeline reaches this broker."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}"

    @contextmanager
    def channel(self) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        """A channel to declare and delete with."""
        connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1", self.port, credentials=pika.PlainCredentials(self.user, self.password)
            )
        )
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def start(self) -> None:
        """Starts the node and waits until it takes a login, or fails with the end of its log."""
        self._configure()
        environment = self._environment()
        if self._mapper is None:
            mapper = shutil.which("epmd", path=f"{os.environ.get('PATH', '')}:/usr/lib/erlang/bin")
            if mapper is None:
                raise RuntimeError("RabbitMQ cannot be started here: Erlang's epmd is not on PATH")
            self._mapper = subprocess.Popen(
                [mapper, "-port", str(self._mapper_port), "-address", "127.0.0.1"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # Before the node looks for one: it would start a mapper of its own, which stays.
            self._wait_for_mapper(self._mapper)
        with (self.folder / "console.log").open("ab") as console:
            self._server = subprocess.Popen(
                [str(self.commands / "rabbitmq-server")],
                env=environment,
                stdout=console,
                stderr=console,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # so that the whole node can be killed, and nothing else
            )
        self._wait_until_ready(self._server)

    def stop(self) -> None:
        """Stops the node as an operator would; its data stays."""
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._server = None

    def kill(self) -> None:
        """The node ends at once, as with a machine that loses power."""
        if self._server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(STOP_SECONDS)
        self._server = None

    def close(self) -> None:
        """Stops everything that was started."""
        self.stop()
        if self._mapper is not None:
            self._mapper.terminate()
            self._mapper.wait(STOP_SECONDS)
            self._mapper = None

    def _configure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "enabled_plugins").write_text("[rabbitmq_stream].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"stream.listeners.tcp.1 = 127.0.0.1:{self._stream_port}\n"
            f"default_user = {self.user}\n"
            f"default_pass = {self.password}\n"
            "disk_free_limit.absolute = 50MB\n"
            "log.file.level = warning\n"
        )

    def _environment(self) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("RABBITMQ_")},
            "HOME": str(self.folder),  # the cookie
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_NODENAME": f"tidemill{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def _wait_for_mapper(self, mapper: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        while mapper.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._mapper_port), timeout=1):
                return
            Event().wait(0.05)
        raise RuntimeError(f"RabbitMQ cannot be started here: epmd does not listen on {self._mapper_port}")

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        pause = Event()
        while time.monotonic() < until:
            if server.poll() is not None:
                raise RuntimeError(f"RabbitMQ ended with {server.returncode} as it started:\n{self._log()}")
            try:
                with self.channel():
                    return
            except (pika.exceptions.AMQPError, OSError):
                pause.wait(0.1)
        log = self._log()
        self.kill()
        raise RuntimeError(f"RabbitMQ took no login within {START_SECONDS} s:\n{log}")

    def _log(self) -> str:
        written = [self.folder / "console.log", *sorted((self.folder / "log").glob("*.log"))]
        return "\n".join(
            line for path in written if path.exists() for line in path.read_text().splitlines()[-30:]
        )


@contextmanager
def running_broker() -> Iterator[Broker]:
    """A broker while the block lasts; afterwards its processes and its folder are gone."""
    folder = Path(tempfile.mkdtemp(prefix="tidemill-rabbitmq-"))
    broker = Broker(folder, server_folder())
    try:
        broker.start()
        yield broker
    finally:
        broker.close()
        shutil.rmtree(folder, ignore_errors=True)
