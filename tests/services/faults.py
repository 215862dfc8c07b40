"""A proxy in front of a store that does to requests what networks and stores do: loses them, their replies, or says 503.

It runs in threads of the test's own process, so that the test says when what happens to which request.
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BUSY = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message></Error>"
)
_OUR_OWN = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_CONDITIONS = {"if-match", "if-none-match"}


class Fault(Enum):
    """What becomes of a request."""

    BUSY = auto()
    """503, and it was not done."""
    LOST_REQUEST = auto()
    """The connection is cut, and it was not done."""
    LOST_REPLY = auto()
    """The connection is cut, and it was done."""
    LATE = auto()
    """No reply until the client has given up; then it is done."""


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    conditional: bool
    by_hadoop: bool

    @property
    def commits(self) -> bool:
        """Whether it puts a commit into a table's log."""
        return self.method == "PUT" and self.conditional and "/_delta_log/" in self.path


Choose = Callable[[Asked], Fault | None]


def _calm(_asked: Asked) -> None:
    return None


@dataclass
class Proxy:
    """Where it listens, what it does, and what it has done."""

    endpoint: str = ""
    choose: Choose = _calm
    done: list[tuple[Fault, Asked]] = field(default_factory=list)
    late: list[threading.Thread] = field(default_factory=list)
    careless: bool = False
    """It leaves out the conditions of writes, as stores do that do not know them."""

    @contextmanager
    def doing(self, choose: Choose) -> Iterator[list[tuple[Fault, Asked]]]:
        """Inside, requests meet what ``choose`` says; afterwards none does, and no late one is under way."""
        self.done, self.choose = [], choose
        try:
            yield self.done
        finally:
            self.choose = _calm
            for thread in self.late:
                thread.join(60)
            self.late.clear()


def once(fault: Fault, fits: Callable[[Asked], bool]) -> Choose:
    """The first request that fits meets ``fault``."""
    left, alone = [fault], threading.Lock()

    def choose(asked: Asked) -> Fault | None:
        with alone:
            return left.pop() if left and fits(asked) else None

    return choose


def storm(chance: random.Random, rate: float) -> Choose:
    """Requests meet a fault of any kind, by chance. Hadoop's are not late: it waits for long."""
    alone = threading.Lock()

    def choose(asked: Asked) -> Fault | None:
        with alone:
            if chance.random() >= rate * (4 if asked.conditional else 1):
                return None
            kinds = [Fault.BUSY, Fault.LOST_REQUEST, Fault.LOST_REPLY]
            return chance.choice([*kinds, Fault.LATE] if asked.conditional and not asked.by_hadoop else kinds)

    return choose


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        asked = Asked(
            self.command,
            self.path,
            "If-None-Match" in self.headers or "If-Match" in self.headers,
            "hadoop" in self.headers.get("User-Agent", "").lower(),
        )
        faults = self.server.faults
        fault = faults.choose(asked)
        if fault is not None:
            faults.done.append((fault, asked))
        self.close_connection = True
        if fault is None:
            self._reply(*self._forward(body))
            return
        if fault is Fault.BUSY:
            self._reply(503, [("Content-Type", "application/xml")], _BUSY)
            return
        if fault is Fault.LATE:
            faults.late.append(threading.current_thread())
            threading.Event().wait(self.server.patience)
        if fault is not Fault.LOST_REQUEST:
            self._forward(body)
        # A reset, so that the client does not take it for an answer without a body.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.behind, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"} | (
                    _CONDITIONS if self.server.faults.careless else set()
                ):
                    connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, reply.getheaders(), reply.read()
        finally:
            connection.close()

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        told = {name.lower(): value for name, value in headers}
        for name, value in headers:
            if name.lower() not in _OUR_OWN:
                self.send_header(name, value)
        length = told.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_what: Any) -> None:
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, faults: Proxy, behind: str, patience: float) -> None:
        self.faults, self.behind, self.patience = faults, behind, patience
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_what: Any) -> None:
        return  # the other side has gone, as it should


@contextmanager
def proxy(endpoint: str, patience: float) -> Iterator[Proxy]:
    """A proxy in front of ``endpoint`` while the block lasts; ``patience``: seconds after which clients give up."""
    found = Proxy()
    server = _Server(found, endpoint.removeprefix("http://"), patience)
    found.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
