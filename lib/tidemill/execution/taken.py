"""What was made of a person's opened fields further down: who computes a table anew without them says so, and who reads it whole
says up to which of those it had read.

Of a table that is read as it grows its ledger tells what has changed since. One that is read whole makes nothing dirty by its
changes; that an erased person was taken out of it does. What a reader publishes holds, in its fact, what it knew of that
before it read (:mod:`tidemill.ledger.beside`), and the judgement compares it with the table's own ledger. Nobody marks anybody, so
a reader may publish at any moment, and a process may die at any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.config import Project
from tidemill.errors import PlanError
from tidemill.execution.runs import Manifest
from tidemill.execution.same_keys import SameKeys
from tidemill.execution.schemas import StartAgain
from tidemill.ledger import log
from tidemill.ledger.coverage import ERASED, Coverage
from tidemill.ledger.facts import Erased, Swap
from tidemill.model import Pipeline
from tidemill.view import coverage_of, happened_upstream, marked_erased, may_hold_opened, opened_beside


def taken_out(project: Project, pipeline: Pipeline, manifest: Manifest) -> tuple[str, ...]:
    """The intervals of which a chunk that is published now takes out what was left of an erased person.

    Asked after the chunk was staged, and where the pin leaves a mark, or what was read is older than what happened upstream, the
    interval stays dirty, and what takes it out in the end says so again: this may say too much, never too little.
    """
    coverage = coverage_of(pipeline)
    if manifest.provisional or not may_hold_opened(pipeline, coverage):
        return ()
    left = happened_upstream(project, pipeline, coverage).erased | marked_erased(coverage)
    return tuple(sorted(left.intersection(manifest.labels)))


def check_nobody_erased(pipeline: Pipeline, manifest: Manifest, verb: str) -> None:
    """Raise :class:`PlanError` where files of a run would come into the table, by ``verb``, that are older than an erasure.

    What it staged, and what it replaced, was computed when the person's fields could be read.
    """
    coverage = coverage_of(pipeline)
    if manifest.provisional or not may_hold_opened(pipeline, coverage):
        return
    since = [label for label in manifest.labels if _erased(coverage, label) > manifest.pin]
    if since:
        why = (
            f"what it would put back into {since[0]} is from before a person was erased, and"
            if verb == "undone"
            else f"a person was erased from {since[0]} since, and its files"
        )
        raise PlanError(
            f"run {manifest.run} is not {verb}: {why} may hold fields of theirs",
            next_step=f"backfill the intervals of {pipeline.name} that are to be others: today's code computes them without the person",
            run=manifest.run,
            intervals=len(since),
        )


def _erased(coverage: Coverage, label: str) -> int:
    """The last version at which somebody was erased from an interval, or what was left of them taken out of it."""
    each = coverage.intervals.get(label)
    if each is None:
        return -1
    return max([each.erased, *(mark.version for mark in each.marks if mark.why == ERASED)])


@dataclass(slots=True)
class Watch:
    """Looks, for one live stream, whether an erased person was taken out of a table that it reads whole.

    Spark reads such a table anew for each batch, before the batch is handed on. What was known when the stream began is of
    what the batch has read, or older. Where there is more by now, nobody knows which of both it has read: the stream begins again,
    and the batch with it.
    """

    project: Project
    pipeline: Pipeline
    _known: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _beside: dict[str, Pipeline] = field(default_factory=dict)
    _keys: SameKeys | None = None

    def begin(self) -> None:
        """Look before the stream begins."""
        self._known.clear()
        self._beside = opened_beside(self.project, self.pipeline)
        self._keys = SameKeys.of(self.pipeline)
        for name, writer in self._beside.items():
            coverage = coverage_of(writer)
            self._seen[name] = coverage.version
            if coverage.erased >= 0:
                self._known[name] = coverage.erased

    def before(self, version: int) -> dict[str, Any]:
        """What the fact of the batch under way says of persons; nothing of it was run. ``version``: of its table, as it is now.

        Raises as :meth:`taken`, and as :meth:`sealed`.
        """
        self.sealed()
        began = version if self.pipeline.personal else -1
        return {"beside": self.taken(), "began": began, "opened": self.pipeline.holds_opened}

    def sealed(self) -> None:
        """Look before and after a batch seals and opens what it has. Raises :class:`StateError` where the keys are not those any
        more that the stream began with.
        """
        if self._keys is not None:
            self._keys.check()

    def taken(self) -> Mapping[str, int]:
        """What the batch under way has read at least. Raises :class:`StartAgain` where more has happened since.

        Costs a look for a file that is not there, and for one that is, for each such table that nobody has changed.
        """
        for name, writer in self._beside.items():
            table, grain = writer.table.path, writer.grain
            while (commit := log.commit_at(table, self._seen[name] + 1, grain)) is not None:
                self._seen[name] = commit.version
                fact = commit.fact
                if (isinstance(fact, Swap) and fact.erased) or (isinstance(fact, Erased) and fact.gone):
                    raise StartAgain(f"without the person who was taken out of {name}")
            # Upkeep may have cleaned what was to be looked at; the newest commit stays.
            if (
                not log.holds(table, self._seen[name])
                and (log.first_version(table) or 0) > self._seen[name] + 1
            ):
                raise StartAgain(f"since upkeep has cleaned what others committed to {name}")
        return dict(self._known)
