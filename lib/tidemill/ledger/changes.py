"""How an upstream table was last changed, interval by interval: a fold over its log, remembered downstream.

An interval is dirty when what it was made from has changed since. Only the last change of each upstream interval
matters for that, so it is kept, in a file beside the checkpoint: the upstream log need not be read from the
beginning each time, and may be cleaned up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tidemill.errors import StateError
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.facts import Commit, Expired, Fact, Foreign, LiveBatch, Swap, Undo
from tidemill.ledger.whole import replace_text
from tidemill.storage import Place, place

EVERYWHERE = "*"
"""Stands for all intervals, where a commit does not say which it changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """The last version that changed an interval, and what was done to it."""

    version: int
    why: str


@dataclass(frozen=True, slots=True)
class Changes:
    """The last change of each interval up to ``version``: rows were ``replaced``, or only ``appended``; or what was left of an
    ``erased`` person was taken out. ``gone``: rows of it went, by whatever was done, or by age.

    ``since``: nothing is known of the commits up to this one; they were cleaned up before anyone looked.
    """

    since: int = -1
    version: int = -1
    replaced: Mapping[str, Change] = field(default_factory=dict)
    appended: Mapping[str, Change] = field(default_factory=dict)
    erased: Mapping[str, Change] = field(default_factory=dict)
    gone: Mapping[str, Change] = field(default_factory=dict)

    @property
    def lost_rows(self) -> bool:
        """Whether the table may have held a row that it does not hold any more."""
        return self.since >= 0 or bool(self.gone)


def fold_all(changes: Changes, commits: Iterable[Commit]) -> Changes:
    """The changes after more commits, in log order."""
    replaced, appended, version = dict(changes.replaced), dict(changes.appended), changes.version
    erased, gone = dict(changes.erased), dict(changes.gone)
    for commit in commits:
        version = commit.version
        for known, (labels, why) in (
            (replaced, _replaced(commit.fact)),
            (appended, _appended(commit.fact)),
            (erased, _erased(commit.fact)),
            (gone, _gone(commit.fact)),
        ):
            known.update({label: Change(version, why) for label in labels})
    return replace(changes, version=version, replaced=replaced, appended=appended, erased=erased, gone=gone)


def _replaced(fact: Fact) -> tuple[Iterable[str], str]:
    match fact:
        case Swap(changed=True, intervals=intervals):
            return [
                label for label, each in intervals.items() if each.added or each.removed
            ], "was backfilled"
        case Undo(intervals=intervals):
            return tuple(intervals), "had a backfill undone"
        case LiveBatch(removed=removed):
            return tuple(removed), "was updated"
        case Foreign(operation=operation, intervals=intervals, replaced=True):
            return _labels(intervals), f"was changed by {operation}"
        case _:
            return (), ""


def _appended(fact: Fact) -> tuple[Iterable[str], str]:
    match fact:
        case LiveBatch(added=added):
            return tuple(added), "has new rows"
        case Foreign(operation=operation, intervals=intervals, replaced=False):
            return _labels(intervals), f"was changed by {operation}"
        case _:
            return (), ""


def _erased(fact: Fact) -> tuple[Iterable[str], str]:
    # Even where no row changed: the rows may have been those of before the mark was set, and made without the person.
    return (fact.erased if isinstance(fact, Swap) else ()), "was computed again without an erased person"


def _gone(fact: Fact) -> tuple[Iterable[str], str]:
    match fact:
        case Expired(intervals=intervals):
            return tuple(intervals), "does not retain all of it any more"
        case Swap(changed=True, intervals=found):
            return [label for label, each in found.items() if each.removed], "was backfilled"
        case Swap():
            return (), ""
        case _:
            return _replaced(fact)


def _labels(intervals: tuple[str, ...] | None) -> tuple[str, ...]:
    return (EVERYWHERE,) if intervals is None else intervals


def read(state: str, table: str, grain: Grain) -> Changes:
    """What is remembered of ``table``, and on top of it what its log holds since. Writes nothing.

    Where the log was cleaned past what is remembered, ``since`` says up to where nothing is known.
    """
    known = _load(state, table, grain)
    try:
        return fold_all(known, log.commits_after(table, known.version, grain))
    except StateError:
        first = log.first_version(table)
        if first is None:
            raise
        # What is remembered still holds; of the gap nothing is known.
        known = replace(known, since=first - 1, version=first - 1)
        return fold_all(known, log.commits_after(table, first - 1, grain))


def remember(state: str, table: str, grain: Grain) -> None:
    """Keep what :func:`read` gives, so that the log may be cleaned up to here."""
    known, now = _load(state, table, grain), read(state, table, grain)
    if now != known:
        body = {
            **_bodies(state),
            table: {"grain": grain, "last": log.digest(table, now.version), "changes": asdict(now)},
        }
        replace_text(_path(state), json.dumps(body, separators=(",", ":")))


def _load(state: str, table: str, grain: Grain) -> Changes:
    try:
        body = _bodies(state)[table]
        fields = dict(body["changes"])
        # Before it was noted which rows went: what was replaced may have been.
        fields.setdefault("gone", fields["replaced"])
        for name in ("replaced", "appended", "erased", "gone"):
            fields[name] = {label: Change(**each) for label, each in fields.get(name, {}).items()}
        changes = Changes(**fields)
        if body["grain"] == grain and log.goes_on_from(table, changes.version, body["last"]):
            return changes
    except (KeyError, TypeError, ValueError, AttributeError):
        # Absent or of another format: the log has it, or it does not and ``since`` will say so.
        pass
    return Changes()


def _bodies(state: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_path(state).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _path(state: str) -> Place:
    return place(state) / "upstream.json"
