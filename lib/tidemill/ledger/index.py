"""The index: coverage as of some version, kept in a file beside the checkpoint.

It only saves time. Deleted, it is rebuilt from the log; older than the log, the rest is folded on top. It
names the last commit it holds, so that an index of another table, or of one restored from a copy, is not taken
for this one's.

Where upkeep cleans the log, it leaves the coverage of what it takes beside the index, in a file that nothing deletes:
from there the index is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from tidemill.errors import StateError
from tidemill.intervals import Grain, grain_of
from tidemill.ledger import coverage as folds
from tidemill.ledger import coverage_json, edge, log
from tidemill.ledger.coverage import Coverage, Shape
from tidemill.ledger.facts import Commit, LiveBatch, Swap
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place

_FORMAT = 6
_READABLE = {3, 5, _FORMAT}
"""Of what upkeep left, which is all there is: format 3 lacks the event times ahead of the watermark, so that what it says of a change
of code is what was said of it then; 5 lacks since when a stream is astray.
"""


def read(table: str, state: str, shape: Shape) -> Coverage:
    """The table's coverage now: the index, and on top of it what the log holds since.

    Writes nothing. Raises :class:`StateError` when neither reaches far enough back, or the table's intervals are of another grain.
    """
    base = _load(table, _index(state), shape) or _load(table, _cleaned(state), shape, of_any_reach=True)
    base = base or Coverage()
    return folds.fold_all(base, _commits_after(table, base.version, shape.grain), shape)


def _commits_after(table: str, version: int, grain: Grain) -> Iterator[Commit]:
    # A table's grain never changes: the first label tells.
    told = False
    for commit in log.commits_after(table, version, grain):
        labels = () if told else _labels(commit)
        for label in labels[:1]:
            told, found = True, grain_of(label)
            if found is not grain:
                raise _of_another_grain(table, found, grain)
        yield commit


def _labels(commit: Commit) -> tuple[str, ...]:
    match commit.fact:
        case LiveBatch(added=added, reached=reached):
            return (*added, *reached)
        case Swap(intervals=intervals):
            return tuple(intervals)
        case _:
            return ()


def _of_another_grain(table: str, then: Grain, now: Grain) -> StateError:
    return StateError(
        f"the intervals of {table} are of the grain {then}, and its pipeline says {now}",
        next_step=f"say interval: {then} again; or give the pipeline a new table: a grain cannot change in place",
        table=table,
        grain=then.value,
    )


def refresh(table: str, state: str, shape: Shape, known: Coverage | None = None) -> Coverage:
    """As :func:`read`, from ``known`` when given, and the index brought up to date, atomically."""
    if known is None:
        current = read(table, state, shape)
    else:
        try:
            current = folds.fold_all(known, _commits_after(table, known.version, shape.grain), shape)
        except StateError:  # upkeep has cleaned what came since
            current = read(table, state, shape)
    if current.version >= 0:
        write(table, state, shape, current)
    return current


def write(table: str, state: str, shape: Shape, coverage: Coverage) -> None:
    """Replace the index by ``coverage``; readers see the old file or the new one."""
    _write(_index(state), table, shape, coverage)


def before_cleaning(table: str, state: str, shape: Shape) -> Coverage:
    """Keep the coverage that the log gives now, so that its commits so far can be taken away."""
    current = refresh(table, state, shape)
    _write(_cleaned(state), table, shape, current)
    return current


def _write(path: Place, table: str, shape: Shape, coverage: Coverage) -> None:
    body = {
        "format": _FORMAT,
        "shape": _key(shape),
        "reach": edge.reach(shape),
        "grain": shape.grain,
        "last": log.digest(table, coverage.version),
        "coverage": coverage_json.as_json(coverage),
    }
    replace_text(path, json.dumps(body, separators=(",", ":")))


def _load(table: str, path: Place, shape: Shape, *, of_any_reach: bool = False) -> Coverage | None:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        formats = _READABLE if of_any_reach else {_FORMAT}
        # Another reach is other code: what was written before is stale, whatever its marks say.
        if body["format"] not in formats or not (of_any_reach or body["shape"] == _key(shape)):
            return None
        coverage = coverage_json.from_json(body["coverage"])
        if not log.goes_on_from(table, coverage.version, body["last"]):
            return None
        if body["grain"] != shape.grain:
            raise _of_another_grain(table, Grain(body["grain"]), shape.grain)
        if body["shape"] == _key(shape):
            return coverage
        before, after = body.get("reach", (0, 0))
        return edge.widened(coverage, shape, (before, after))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Absent, torn or of another format: the log has it all.
        return None


def _index(state: str) -> Place:
    return place(state) / "index.json"


def _cleaned(state: str) -> Place:
    return place(state) / "cleaned.json"


def _key(shape: Shape) -> str:
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:16]
