"""An S3-compatible store of the tests' own: moto, on loopback, on a free port, in a process that goes with it.

Two things are added to moto, which it leaves out and which stores have: writes come one after the other, so that of two
conditional ones one is refused; and a key that is not the store's is.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 60
STOP_SECONDS = 10
KEY, SECRET, REGION = "TIDEKEYOFTESTS", "tide-secret-of-tests", "eu-central-1"
_ROOT = Path(__file__).resolve().parents[2]
_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidAccessKeyId</Code>'
    b"<Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>"
)


@dataclass(frozen=True)
class Store:
    """A running store."""

    endpoint: str

    def environment(self) -> dict[str, str]:
        """What a process that is to reach it by the provider chain has in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def make_bucket(self, name: str) -> str:
        """A new bucket."""
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def client(self) -> Any:
        """A client of another maker than the ones that are tested."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )


@contextmanager
def running_store() -> Iterator[Store]:
    """A store while the block lasts; afterwards its process is gone, and all that it held."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "tests.services.s3", str(port)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    # Its log is of no interest once it listens, and a full pipe would stop it.
    drain = threading.Thread(target=_drain, args=(process,), daemon=True)
    try:
        _wait(process, port)
        drain.start()
        yield Store(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
        if drain.is_alive():
            drain.join(STOP_SECONDS)
        assert process.stderr is not None
        process.stderr.close()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"the store ended as it started:\n{process.stderr.read().decode()[-2000:]}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        threading.Event().wait(0.05)
    raise RuntimeError(f"the store did not listen within {START_SECONDS} s")


def _drain(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    with suppress(ValueError):
        for _line in process.stderr:
            pass


class _Strict:
    """moto as a WSGI application, with what stores do besides."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._writing = threading.Lock()

    def __call__(self, environ: Mapping[str, Any], start: Any) -> Iterable[bytes]:
        key = re.search(r"Credential=([^/]*)/", str(environ.get("HTTP_AUTHORIZATION", "")))
        if key is not None and key[1] != KEY:
            start(
                "403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(_DENIED)))]
            )
            return [_DENIED]
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
            return self._application(environ, start)  # type: ignore[no-any-return]
        with self._writing:
            return list(self._application(environ, start))


def main(port: int) -> None:
    """Serves until it is told to stop."""
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    run_simple("127.0.0.1", port, _Strict(DomainDispatcherApplication(create_backend_app)), threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
