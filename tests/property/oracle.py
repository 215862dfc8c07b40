"""What each example pipeline's table must hold, in plain Python, from the good events alone.

Shares nothing with tidemill or Spark. Moments are whole microseconds since 1970. Each function gives a multiset of rows
for each interval: ``{label: Counter(rows)}``, a row being a tuple in the order of the table's columns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby

from tests.property.histories import Event

MINUTE = 60_000_000
HOUR = 60 * MINUTE
GAP = 20 * MINUTE
BEFORE, AFTER = HOUR, 30 * MINUTE
NAMES = {"a": "anna", "b": "bert"}
WHOLE = "all"
"""The label of the one interval of a read model; a pattern without a part of the time."""
Row = tuple[object, ...]
Table = dict[str, Counter[Row]]


def kept(code: str, events: Iterable[Event]) -> list[Event]:
    wanted: Callable[[int], bool] = {"a": lambda v: v % 3 != 0, "b": lambda v: v % 4 != 1}[code]
    return [event for event in events if wanted(event.value)]


def table(kind: str, code: str, events: list[Event], others: list[Event]) -> Table:
    """What the table of one kind holds when its code has seen these events."""
    good = kept(code, events)
    rows: dict[str, Callable[[], Iterable[tuple[int, Row]]]] = {
        "stateless": lambda: ((e.at, (e.id, e.key, e.value * 2 + 1, e.at)) for e in good),
        "tumbling": lambda: _windows(good, HOUR, HOUR),
        "sliding": lambda: _windows(good, 3 * HOUR, HOUR),
        "sessions": lambda: _sessions(good),
        "dedup": lambda: _first_of_chains(good),
        "joined": lambda: ((e.at, (e.id, o.id, e.key, e.value, e.at)) for e, o in _pairs(good, others)),
        "named": lambda: ((e.at, (e.id, NAMES[e.key], e.value, e.at)) for e in good if e.key in NAMES),
        "newest": lambda: _newest(good, "%Y-%m-%d"),
        "model": lambda: _newest(good, WHOLE),
        "chained": lambda: _windows([e for e, _ in _pairs(good, others)], HOUR, HOUR),
        "gaps": lambda: _gaps(good),
        "totals": lambda: _carried(good, lambda total, value: (total + value, total + value)),
        "last": lambda: _carried(good, lambda before, value: (value, value - before)),
        "both": lambda: _windows([*good, *others], HOUR, HOUR),
    }
    grain = {"stateless": "%Y-%m-%dT%H", "last": "%Y-%m-%dT%H", "model": WHOLE}.get(kind, "%Y-%m-%d")
    found: Table = defaultdict(Counter)
    for at, row in rows[kind]():
        found[label(at, grain)][row] += 1
    return dict(found)


def label(at: int, pattern: str) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).strftime(pattern)


def _windows(events: Iterable[Event], length: int, slide: int) -> Iterable[tuple[int, Row]]:
    values: dict[tuple[int, str], list[int]] = defaultdict(list)
    for event in events:
        start = event.at - event.at % slide
        while start > event.at - length:
            values[start, event.key].append(event.value)
            start -= slide
    return [(start, (start, key, len(v), sum(v), max(v))) for (start, key), v in values.items()]


def _chains(events: Iterable[Event]) -> Iterable[list[Event]]:
    for _, same in groupby(sorted(events, key=lambda e: (e.key, e.at)), key=lambda e: e.key):
        chain: list[Event] = []
        for event in same:
            # Spark joins what lies exactly the gap apart.
            if chain and event.at > chain[-1].at + GAP:
                yield chain
                chain = []
            chain.append(event)
        yield chain


def _sessions(events: Iterable[Event]) -> Iterable[tuple[int, Row]]:
    for chain in _chains(events):
        start, end = chain[0].at, chain[-1].at + GAP
        yield start, (start, end, chain[0].key, len(chain), sum(e.value for e in chain))


def _first_of_chains(events: Iterable[Event]) -> Iterable[tuple[int, Row]]:
    for chain in _chains(events):
        first = min(chain, key=lambda e: (e.at, e.id, e.key, e.value))
        yield first.at, (first.id, first.key, first.value, first.at)


def _gaps(events: Iterable[Event]) -> Iterable[tuple[int, Row]]:
    ordered = sorted(events, key=lambda e: (e.key, e.at, e.id, e.value))
    for _, same in groupby(ordered, key=lambda e: e.key):
        mine = list(same)
        for before, event in zip([None, *mine], mine, strict=False):
            near = before is not None and event.at - before.at < 2 * HOUR
            yield event.at, (event.id, event.key, event.value - before.value if near else None, event.at)
        for event, after in zip(mine, [*mine[1:], None], strict=True):
            silent = event.at + 90 * MINUTE
            if after is None or after.at >= silent:
                yield silent, ("silent", event.key, event.value, silent)


def _carried(
    events: Iterable[Event], step: Callable[[int, int], tuple[int, int]]
) -> Iterable[tuple[int, Row]]:
    ordered = sorted(events, key=lambda e: (e.key, e.at, e.id, e.value))
    for _, same in groupby(ordered, key=lambda e: e.key):
        mine, state = list(same), 0
        for event, after in zip(mine, [*mine[1:], None], strict=True):
            state, told = step(state, event.value)
            yield event.at, (event.id, event.key, told, event.at)
            silent = event.at + 90 * MINUTE
            if after is None or after.at >= silent:
                yield silent, ("silent", event.key, state, silent)


def _pairs(events: Iterable[Event], others: list[Event]) -> list[tuple[Event, Event]]:
    return [
        (e, o) for e in events for o in others if e.key == o.key and e.at - BEFORE <= o.at <= e.at + AFTER
    ]


def _newest(events: Iterable[Event], pattern: str) -> Iterable[tuple[int, Row]]:
    best: dict[tuple[str, str], Event] = {}
    for event in events:
        place = (label(event.at, pattern), event.key)
        if place not in best or _rank(event) > _rank(best[place]):
            best[place] = event
    return [(e.at, (e.id, e.key, e.value, e.at)) for e in best.values()]


def _rank(event: Event) -> tuple[int, int, str]:
    return event.value, event.at, event.id
