"""The facts that a commit carries about itself.

A fact is written once, inside the commit it speaks of (``commitInfo.userMetadata``), and never changed.
Labels name intervals (:attr:`tidemill.intervals.Interval.label`). Everything is JSON of a few kilobytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from tidemill.ledger import carried
from tidemill.ledger import verdicts as texts
from tidemill.ledger.beside import Taken
from tidemill.ledger.carried import Carried, Given, Seed
from tidemill.ledger.verdicts import Verdict

FORMAT = 1
"""The version of the facts' shape, in each of them under ``tidemill``."""

Offsets = Mapping[str, Any]
"""How far each input was read, by input name; the value is the source's own offset, JSON-able."""


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """One live batch was published, rows or not.

    ``added``/``removed``: rows by interval (an upsert removes what it replaces). ``late``: intervals whose
    input this batch touched too late for the stream to take it in. ``touched``: event-time ranges of the
    batch's input, ``[from, to)`` in epoch seconds; ``ruled_out``: of what rules left out of it. ``reached``: intervals that
    this input belongs to and that got no row of it in this batch: filtered away, or kept in state. ``watermark``: epoch milliseconds,
    up to which every operator of the batch had finished. ``quarantined``: input rows set aside, ``dropped``: those left
    out by rules and not kept; ``output_quarantined`` and ``output_dropped``: the same of the transform's rows.
    ``verdicts``: what the pipeline's suites found in the batch. ``owed``: of a bootstrap's batches, the intervals, as
    ranges like ``touched``, whose rows from this batch's input a backfill is to make. ``carries``: its fold carries states
    from interval to interval; ``states``: those that were given at the ends of intervals that the batch has passed. ``refused``: of an event store, the
    folder below its root with the batch's rows for the table of rejections, which are there before this commit is.
    ``planted``: the name of the seed that its states began anew with, "" for none; None where nothing says. ``reach``: the
    ``lookback`` and ``lookahead`` by which ``reached`` was found, in milliseconds; None where nothing says. ``timed``: by input, the
    column whose event times all of these are.
    ``beside``: which erasures the tables had seen that the batch read whole, see :mod:`.beside`. ``began``: where it seals or opens fields
    of persons, the table's version before it asked for their keys. ``opened``: its rows may hold such fields in clear.
    """

    kind: ClassVar[str] = "live"
    pipeline: str
    run: str
    fingerprint: str
    query: str
    batch: int
    source_start: Offsets
    source_end: Offsets
    stateful: bool
    watermark: int | None = None
    input_rows: int = 0
    quarantined: int = 0
    added: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    late: tuple[str, ...] = ()
    touched: tuple[tuple[int, int], ...] = ()
    reached: tuple[str, ...] = ()
    dropped: int = 0
    output_quarantined: int = 0
    output_dropped: int = 0
    verdicts: tuple[Verdict, ...] = ()
    owed: tuple[tuple[int, int], ...] = ()
    carries: bool = False
    states: Given = field(default_factory=dict)
    refused: str | None = None
    planted: str | None = None
    reach: tuple[int, int] | None = None
    timed: Mapping[str, str] = field(default_factory=dict)
    beside: Taken = field(default_factory=dict)
    began: int = -1
    opened: bool = False
    ruled_out: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class IntervalResult:
    """What a backfill found for one interval: its rows, their content hash, and how they differ."""

    rows: int
    hash: str | None = None
    added: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Swap:
    """Intervals were recomputed and replaced (``changed``), or recomputed and found equal.

    ``pin``: the table version whose files were replaced; ``source_end``: how far the input was read.
    ``provisional``: the intervals are still open; the live stream takes the swap back when it resumes.
    ``quarantined``: bad rows in all the input that was read, where no live stream counts them.
    ``verdicts``: what the pipeline's suites found in the intervals together. ``forced``: why it was published though
    the gate refused it; None where the gate let it pass. ``left_out``: rows of the intervals that rules of the table set
    aside, and that they dropped; of what a bootstrap owed, nothing else counts them. ``carries``, ``states``: as a live
    batch's, of each of the intervals. ``seed``: of a restart, what the stream begins anew with from this commit on; the
    intervals are then the open ones, computed as far as the stream had stepped rows. ``beside``, ``opened``: as a live batch's.
    ``erased``: intervals of which this takes out what was left of an erased person; who read them before is to be computed again.
    """

    kind: ClassVar[str] = "swap"
    pipeline: str
    run: str
    chunk: int
    fingerprint: str
    pin: int
    source_end: Offsets
    intervals: Mapping[str, IntervalResult]
    changed: bool = True
    provisional: bool = False
    quarantined: int | None = None
    verdicts: tuple[Verdict, ...] = ()
    forced: str | None = None
    left_out: tuple[int, int] = (0, 0)
    carries: bool = False
    states: Mapping[str, Carried] = field(default_factory=dict)
    seed: Seed | None = None
    beside: Taken = field(default_factory=dict)
    erased: tuple[str, ...] = ()
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Undo:
    """A swap was taken back: the intervals hold the rows from before it, and whatever came since."""

    kind: ClassVar[str] = "undo"
    pipeline: str
    run: str
    chunk: int
    intervals: Mapping[str, int]
    """The change in rows by interval."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A commit that tidemill did not make changed these intervals (all, when ``intervals`` is None).

    ``replaced``: rows were removed or replaced, not only appended.
    """

    kind: ClassVar[str] = "foreign"
    operation: str
    intervals: tuple[str, ...] | None
    replaced: bool = True


@dataclass(frozen=True, slots=True)
class Rearranged:
    """A commit that changed no row: it made the table, compacted files, or set a property.

    Files may have other names since; a pin must not stand before it.
    """

    kind: ClassVar[str] = "rearranged"


@dataclass(frozen=True, slots=True)
class Expired:
    """The oldest intervals went, because the sink retains so much and no more.

    ``until``: where the first interval begins that stays (epoch seconds). ``intervals``: the rows that went, by interval.
    ``start``: by topic and partition, the offset after the last that went.
    """

    kind: ClassVar[str] = "expired"
    pipeline: str
    until: int
    intervals: Mapping[str, int]
    start: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Erased:
    """Fields of a person in these intervals are not to be read any more: they are to be computed again without.

    ``seen``: the version by which the intervals were found. Batches that came after that may have had the key, too, and so may
    one that began before this commit. -1 where nothing says: then every interval that rows ever came to is marked. ``gone``: the table
    has lost rows before, and so may have held something of the person of which it does not know any more; who has read it whole may
    hold it still.
    """

    kind: ClassVar[str] = "erased"
    pipeline: str
    run: str
    intervals: tuple[str, ...]
    seen: int
    gone: bool = False


Fact = LiveBatch | Swap | Undo | Expired | Erased | Foreign | Rearranged


@dataclass(frozen=True, slots=True)
class Commit:
    """A fact at its place in the log: table version and commit time (epoch milliseconds)."""

    version: int
    at: int
    fact: Fact


def with_counts(fact: LiveBatch, added: Mapping[str, int], removed: Mapping[str, int]) -> LiveBatch:
    """The fact with the rows that its commit adds and removes, by interval."""
    reached = tuple(label for label in fact.reached if label not in added and label not in removed)
    return replace(fact, added=added, removed=removed, reached=reached)


def to_json(fact: Fact) -> str:
    """The text that goes into the commit."""
    body = {"tidemill": FORMAT, "kind": fact.kind, **_lean(asdict(fact))}
    if isinstance(fact, LiveBatch | Swap) and fact.verdicts:
        body["verdicts"] = texts.as_json(fact.verdicts)
    return json.dumps(body, separators=(",", ":"), sort_keys=True)


def from_json(text: str | None) -> Fact | None:
    """The fact in a commit's ``userMetadata``; None when the commit is not tidemill's."""
    try:
        body = json.loads(text) if text else None
    except ValueError:
        return None
    if not isinstance(body, dict) or body.pop("tidemill", None) != FORMAT:
        return None
    try:
        return _fact(body)
    except (TypeError, KeyError, ValueError, AttributeError):
        # Of this format by its number only: its commit counts as one by a stranger.
        return None


def _fact(body: dict[str, Any]) -> Fact | None:
    if "verdicts" in body:
        body["verdicts"] = texts.from_json(body["verdicts"])
    match body.pop("kind"):
        case LiveBatch.kind:
            body["late"] = tuple(body.get("late", ()))
            body["touched"] = tuple((a, b) for a, b in body.get("touched", ()))
            body["ruled_out"] = tuple((a, b) for a, b in body.get("ruled_out", ()))
            body["owed"] = tuple((a, b) for a, b in body.get("owed", ()))
            body["states"] = carried.given_from_json(body.get("states", {}))
            body["reach"] = tuple(body["reach"]) if body.get("reach") else None
            return LiveBatch(**body)
        case Swap.kind:
            body["intervals"] = {k: IntervalResult(**v) for k, v in body["intervals"].items()}
            body["left_out"] = tuple(body.get("left_out", (0, 0)))
            body["states"] = carried.carried_from_json(body.get("states", {}))
            body["seed"] = Seed(**body["seed"]) if body.get("seed") else None
            body["erased"] = tuple(body.get("erased", ()))
            return Swap(**body)
        case Undo.kind:
            return Undo(**body)
        case Erased.kind:
            return Erased(**{"seen": -1} | body | {"intervals": tuple(body["intervals"])})
        case Expired.kind:
            return Expired(**{"start": {}} | body)
        case _:
            return None


def _lean(body: dict[str, Any]) -> dict[str, Any]:
    # Defaults are left out: a commit's metadata stays small.
    keep, rare = (
        {"source_start", "source_end", "intervals"},
        {"dropped", "output_quarantined", "output_dropped", "carries", "opened", "gone"},
    )
    none: tuple[Any, ...] = (None, {}, (), [], (0, 0))
    if body.get("began") == -1:
        del body["began"]
    return {
        k: v
        for k, v in body.items()
        # Looking nowhere else is something to say.
        if k in keep or (k == "reach" and v) or not (v in none or (k in rare and not v))
    }
