"""What suites found, commit by commit, as a table's log has it: what Data Docs show. Reads the log alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from tidemill.ledger import log
from tidemill.ledger.facts import Commit, LiveBatch, Swap
from tidemill.ledger.verdicts import Result
from tidemill.model import Pipeline

_BLOCK = 200  # commits that are read at once, from the newest back


@dataclass(frozen=True, slots=True)
class Validation:
    """What one suite found in one batch or chunk. ``of``: the input that it judged, "" for the rows of the table.

    ``part``: the batch or chunk, for a person; ``at``: when it was published.
    """

    pipeline: str
    of: str
    version: int
    at: datetime
    run: str
    part: str
    intervals: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def name(self) -> str:
        """What it is filed under: sorts by age."""
        return f"{self.version:020d}-{place(self.of)}"

    @property
    def met(self) -> int:
        """How many expectations are met."""
        return sum(each.met for each in self.results)

    @property
    def success(self) -> bool:
        """Whether all of them are."""
        return self.met == len(self.results)


def place(of: str) -> str:
    """What the rows that a suite judges are called in names of files.

    >>> place(""), place("raw/events")
    ('table', 'input-raw_events')
    """
    return f"input-{re.sub(r'[^A-Za-z0-9.-]', '_', of)}" if of else "table"


def newest(pipeline: Pipeline, most: int) -> tuple[Validation, ...]:
    """The ``most`` newest validations that the log of a pipeline's table still holds, newest first."""
    path = pipeline.table.path
    first, last = log.first_version(path), log.last_version(path)
    found: list[Validation] = []
    if first is None or last is None:
        return ()
    end = last + 1
    while end > first and len(found) < most:
        start = max(first, end - _BLOCK)
        commits = [*islice(log.commits_after(path, start - 1, pipeline.grain), end - start)]
        found += [each for commit in reversed(commits) for each in _validations(pipeline.name, commit)]
        end = start
    return tuple(found[:most])


def _validations(name: str, commit: Commit) -> Iterator[Validation]:
    match commit.fact:
        case LiveBatch() as fact:
            part, intervals = f"batch {fact.batch}", tuple(fact.added)
        case Swap() as fact:
            part, intervals = f"chunk {fact.chunk + 1}", tuple(fact.intervals)
        case _:
            return
    at = datetime.fromtimestamp(commit.at / 1000, UTC)
    for each in fact.verdicts:
        if each.results:
            yield Validation(name, each.of, commit.version, at, fact.run, part, intervals, each.results)
