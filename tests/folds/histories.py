"""Random histories of keys, a fold that minds everything that may go wrong, and what must come out of it.

The oracle knows nothing of tidemill: it plays each key's history on a timetable, one thing at a time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st

from tidemill.folds import Fold, cells, keys, waiting

BEGIN = datetime(2024, 2, 28, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HORIZON = 120 * MINUTE
MOST = 1_000_003


class Event(NamedTuple):
    """A row; ``at`` in minutes after BEGIN."""

    key: str | None
    at: int
    seq: int | None
    value: int

    @property
    def moment(self) -> datetime:
        """When it happened."""
        return BEGIN + self.at * MINUTE


class State(NamedTuple):
    """What the test's fold keeps."""

    n: int
    total: int
    due: datetime | None
    rung: int


Out = tuple[str | None, datetime, str, int | None, int | None]


class Ladder(Fold[State]):
    """Counts, and hashes the order of what happens; each row sets a timer, and a timer sets two more."""

    key, time, order_by = ("key",), "at", ("seq",)
    state = "n BIGINT, total BIGINT, due TIMESTAMP, rung INT"
    output = "key STRING, at TIMESTAMP, what STRING, n BIGINT, total BIGINT"
    horizon = "2 hours"
    buckets = 4
    back = 5
    """Timers are due up to ten minutes times this before the row that sets them."""

    def zero(self) -> State:
        return State(0, 0, None, 0)

    def step(self, state: State, row: Any) -> tuple[State, list[Out]]:
        if row.value == 13:
            msg = "unlucky"
            raise ValueError(msg)
        total = (state.total * 31 + row.value) % MOST
        due = None if row.value == 0 else row.at + (row.value - self.back) * 10 * MINUTE
        after = State(state.n + 1, total, due, 0)
        return after, [(row.key, row.at, "row", after.n, total)] if row.value % 2 else []

    def due(self, state: State) -> datetime | None:
        return state.due

    def on_time(self, key: tuple[Any, ...], state: State, time: datetime) -> tuple[State, list[Out]]:
        total = (state.total * 17 + 1) % MOST
        due = time + 25 * MINUTE if state.rung < 2 else None
        return State(state.n, total, due, state.rung + 1), [(key[0], time, "timer", state.n, total)]

    def failed(self, row: Any, error: Exception) -> list[Out]:
        what = "unlucky" if "unlucky" in str(error) else "null" if "is null" in str(error) else "tied"
        return [(row.key, row.at, what, None, None)]


def expected(events: Iterable[Event], until: datetime | None = None) -> Counter[Out]:
    """What comes out; ``until``: of rows and timers up to this moment."""
    by_key: dict[str | None, list[Event]] = defaultdict(list)
    for event in events:
        by_key[event.key].append(event)
    found: Counter[Out] = Counter()
    for key, mine in by_key.items():
        found.update(_played(key, mine, until, HORIZON)[0])
    return found


class Endless(Ladder):
    """The same, and never forgets; what comes out of it is of the moment."""

    horizon, back = None, 0


def expected_endless(events: Iterable[Event], until: datetime | None = None) -> Counter[Out]:
    """As :func:`expected`, of :class:`Endless`."""
    found: Counter[Out] = Counter()
    for key in {event.key for event in events}:
        found.update(_played(key, [e for e in events if e.key == key], until, None)[0])
    return found


def states_before(events: Iterable[Event], moment: datetime) -> dict[str, State]:
    """The states of :class:`Endless`, of all that happens before a moment; without keys that are as if never seen."""
    found = {}
    for key in {event.key for event in events if event.key is not None}:
        mine = [e for e in events if e.key == key]
        state = _played(key, mine, moment - timedelta(microseconds=1), None)[1]
        if state != State(0, 0, None, 0):
            found[str(key)] = state
    return found


def _played(  # noqa: C901, PLR0912  # one timetable
    key: str | None, events: list[Event], until: datetime | None, horizon: timedelta | None
) -> tuple[list[Out], State]:
    waiting = sorted(events, key=lambda e: (e.at, e.seq is not None, e.seq or 0))
    clashes = defaultdict(set)
    for event in events:
        clashes[event.at, event.seq].add(event)
    out: list[Out] = []
    back = Endless.back if horizon is None else Ladder.back
    n = total = rung = 0
    due: datetime | None = None
    forget: datetime | None = None
    while True:
        agenda = []
        if due is not None:
            agenda.append((due, 0))
        if forget is not None:
            agenda.append((forget, 1))
        if waiting:
            agenda.append((waiting[0].moment, 2))
        now, what = min(agenda, default=(None, 0))
        if now is None or (until is not None and now > until):
            return out, State(n, total, due, rung)
        if what == 0:
            total = (total * 17 + 1) % MOST
            out.append((key, now, "timer", n, total))
            rung, due = rung + 1, (now + 25 * MINUTE if rung < 2 else None)
        elif what == 1:
            n = total = rung = 0
            due = forget = None
        else:
            event = waiting.pop(0)
            if key is None:
                out.append((key, now, "null", None, None))
            elif len(clashes[event.at, event.seq]) > 1:
                out.append((key, now, "tied", None, None))
            elif event.value == 13:
                out.append((key, now, "unlucky", None, None))
            else:
                n, total, rung = n + 1, (total * 31 + event.value) % MOST, 0
                due = None if event.value == 0 else now + (event.value - back) * 10 * MINUTE
                forget = None if horizon is None else now + horizon
                if event.value % 2:
                    out.append((key, now, "row", n, total))


def histories(keys: Sequence[str | None], most: int = 12) -> st.SearchStrategy[list[Event]]:
    """Events of some keys: crowded enough for ties, equal rows, timers that cross rows, and keys that are forgotten."""
    event = st.builds(
        Event,
        st.sampled_from(keys),
        st.integers(0, 60).map(lambda n: n * 10),
        st.sampled_from([None, 0, 1, 2, 3]),
        st.integers(0, 13),
    )
    return st.lists(event, max_size=most)


def history(key: str, dice: Random) -> list[Event]:
    """A random history of one key, of the same kind."""
    return [
        Event(key, dice.randrange(60) * 10, dice.choice([None, 0, 1, 2, 3]), dice.randrange(14))
        for _ in range(dice.randrange(16))
    ]


def small_parts(patch: pytest.MonkeyPatch, data: Any) -> None:
    """Have buckets do with a few keys what they do with many: segments, keys apart, blobs apart, a memory that is too small."""
    patch.setattr(keys, "KEYS_A_SEGMENT", data.draw(st.sampled_from([4096, 1]), label="keys a segment"))
    patch.setattr(keys, "SHARE", data.draw(st.sampled_from([1, 8]), label="a share of keys apart"))
    patch.setattr(waiting, "MOST_CHUNKS", 2)
    patch.setattr(cells, "SMALL", data.draw(st.sampled_from([0, 2000, 65536]), label="bytes with the head"))
    most = data.draw(st.sampled_from([0, 3000, 1_000_000]), label="bytes remembered")
    patch.setattr(cells, "_remembered", cells.Remembered(most))
