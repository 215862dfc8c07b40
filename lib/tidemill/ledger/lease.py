"""One owner at a time: a lease is a file that says who holds what, until when.

Guarantees: of processes that start at once, one gets the lease. A holder that lives renews it; one that
died on this machine loses it at once, one elsewhere when ``TTL`` has passed since its last renewal. A
holder that lost its lease (it slept, and another took over) is told so by :meth:`Lease.check` before it
writes. What still slips through between check and commit meets the application transaction.

A lease file changes hands under a lock on a file beside it, which the system frees when its process dies:
looking at the holder, finding it dead and taking its place are one step, and so are looking and renewing. On a
store the same step is a conditional write: it is refused when another came between, and the holder is looked at anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tidemill.clock import Clock, SystemClock
from tidemill.errors import LeaseHeld, StateError, StoreError
from tidemill.storage import ObjectPath, Place, Unknown, place

TTL = timedelta(seconds=60)
_RENEW_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease."""

    token: str
    host: str
    pid: int
    started: float
    since: str
    until: str
    what: str

    def describe(self) -> str:
        """The holder, for a message."""
        return f"process {self.pid} on {self.host} ({self.what}), since {self.since}"


class Lease:
    """A lease on ``name`` in a state folder; a context manager.

    Entering raises :class:`LeaseHeld` naming the holder, unless the holder is dead, its lease ran out, or
    ``take_over`` is set; :class:`StateError` when the lease cannot be written.
    """

    def __init__(
        self, state: str, name: str, *, what: str, clock: Clock | None = None, take_over: bool = False
    ) -> None:
        self._path = place(state) / f"{name}.lease"
        self._clock = clock or SystemClock()
        self._take_over = take_over
        self._what = what
        self._token = uuid.uuid4().hex
        self._since = ""
        self._stop = threading.Event()
        self._renewing: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._since = self._clock.now().isoformat(timespec="seconds")
        try:
            if isinstance(self._path, ObjectPath):
                self._path.parent.check_conditions()
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            _exchange(self._path, self._taken)
        except OSError as error:
            raise StateError(
                f"the lease {self._path} cannot be taken: {error.strerror or error}",
                next_step="the state folder must be writable, and its disk must have room",
                file=str(self._path),
            ) from error
        self._renewing = threading.Thread(target=self._renew, daemon=True, name=f"lease-{self._path.stem}")
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._renewing is not None:
            self._renewing.join(timeout=5)
        # A store that does not answer now says nothing of what was done: the lease runs out.
        with suppress(StoreError):
            _exchange(self._path, lambda holder: "" if self._is_mine(holder) else None)

    @property
    def lost(self) -> bool:
        """Whether it is known to be lost, as renewing it found. Reads nothing; :meth:`check` asks."""
        renewing = self._renewing
        return renewing is not None and not renewing.is_alive() and not self._stop.is_set()

    def check(self) -> None:
        """Raise :class:`LeaseHeld` when the lease is no longer ours."""
        holder = read(self._path)
        if holder is None or holder.token != self._token:
            raise LeaseHeld(
                f"the lease {self._path} was lost"
                + (f" to {holder.describe()}" if holder else ": its file is gone"),
                next_step="this process must stop; start it again if nobody else should run",
                file=str(self._path),
            )

    def _taken(self, holder: Holder | None) -> str:
        if holder is None or self._take_over or self._is_mine(holder) or gone(holder, self._clock.now()):
            return self._record()
        raise self._held(holder)

    def _held(self, holder: Holder) -> LeaseHeld:
        return LeaseHeld(
            f"{self._path.stem} of {self._path.parent} is held by {holder.describe()}",
            next_step=f"stop that process, or wait until {holder.until}; if you are sure it is dead, "
            "pass --take-over",
            holder=holder.describe(),
            since=holder.since,
            until=holder.until,
        )

    def _record(self) -> str:
        until = (self._clock.now() + TTL).isoformat(timespec="seconds")
        body = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "since": self._since,
            "until": until,
            "what": self._what,
        }
        return json.dumps(body)

    def _is_mine(self, holder: Holder | None) -> bool:
        return holder is not None and holder.token == self._token

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_EVERY):
            # A full disk may have room again before the lease runs out, and a store answer.
            with suppress(OSError, StoreError):
                if not _exchange(
                    self._path, lambda holder: self._record() if self._is_mine(holder) else None
                ):
                    return


def _exchange(path: Place, following: Callable[[Holder | None], str | None]) -> bool:
    """Put what ``following`` makes of the holder in the lease's place, in one step: "" for no lease at all, None to leave it.

    Whether anything was put there.
    """
    if isinstance(path, ObjectPath):
        return _exchange_object(path, following)
    with _alone(path):
        text = following(read(path))
        if text:
            # Written whole under another name, then moved: whoever reads the lease reads all of it.
            fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
        elif text is not None:
            path.unlink(missing_ok=True)
        return text is not None


def _exchange_object(path: ObjectPath, following: Callable[[Holder | None], str | None]) -> bool:
    while True:
        found = path.read_tagged()
        body, tag = found if found is not None else ("", None)
        text = following(_holder(body))
        if text is None:
            return False
        with suppress(Unknown):  # it may be ours: the next look tells
            if path.create(text) if found is None else path.replace_tagged(text, str(tag)):
                return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(path: Place) -> Holder | None:
    """The holder that a lease file names; None when there is no lease."""
    try:
        return _holder(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _holder(text: str) -> Holder | None:
    # A lease that was given back is an empty object: to delete one on a condition is more than some stores know.
    if not text:
        return None
    try:
        body: dict[str, Any] = json.loads(text)
        return Holder(**body)
    except (ValueError, TypeError):
        # Only a foreign hand can leave this; treat it as a lease that ran out long ago.
        past = datetime(1970, 1, 1, tzinfo=UTC).isoformat()
        return Holder("unreadable", "an unknown host", 0, 0.0, past, past, "unreadable lease")


def gone(holder: Holder, now: datetime) -> bool:
    """Whether the holder is dead (seen, on this machine) or has let its lease run out (elsewhere)."""
    if holder.host == socket.gethostname():
        return _started(holder.pid) != holder.started
    return datetime.fromisoformat(holder.until) < now


def _started(pid: int) -> float:
    # Process ids are used again; with its start time a process is known for certain. 0 when it is gone.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return 0.0 if fields[0] == "Z" else float(fields[19])
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return 0.0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return 0.0
    except PermissionError:
        pass
    return 1.0
