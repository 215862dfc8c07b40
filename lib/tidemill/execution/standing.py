"""Whether another run stands on the same intervals: what files cannot tell where there are none.

A swap that replaces files is refused when they are gone. A swap of an interval that was empty replaces none: two
of them, planned at the same version, would both add their rows. The ledger tells them apart. Nor do files tell what another
run has put into the quarantine: where a chunk is to replace that, every swap counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tidemill.errors import CommitConflict, StateError
from tidemill.execution.runs import Manifest
from tidemill.ledger import log
from tidemill.ledger.facts import Swap, Undo
from tidemill.model import Pipeline


def alone(
    pipeline: Pipeline, manifest: Manifest, guard: Callable[[], None] | None, *, undoing: bool = False
) -> Callable[[], None]:
    """A guard for publishing (or ``undoing``) a chunk: ``guard``, and no other run came to its intervals.

    It raises :class:`CommitConflict` naming the runs that did: since the chunk's pin, or on top of it.
    """

    def check() -> None:
        if guard is not None:
            guard()
        others = _came_since(pipeline, manifest, undoing=undoing)
        if others:
            raise CommitConflict(
                f"{pipeline.name}: intervals of run {manifest.run} were changed by {', '.join(others)} meanwhile",
                next_step=f"undo {others[-1]} first" if undoing else "plan again",
                run=manifest.run,
            )

    return check


def came_to(pipeline: Pipeline, manifest: Manifest) -> frozenset[str]:
    """The intervals of a chunk that other runs have settled, or undone, since it was last published or undone, or else pinned.

    What it set aside of them is not to be put back any more. All of them, where the log does not tell.
    """
    mine = (manifest.run, manifest.chunk)
    labels, others = frozenset(manifest.labels), Counter[tuple[str, int, str]]()
    try:
        for commit in log.commits_after(pipeline.table.path, manifest.pin, pipeline.grain):
            match commit.fact:
                case Swap() | Undo() as fact if (fact.run, fact.chunk) == mine:
                    others.clear()
                case Swap() | Undo() as fact:
                    by = 1 if isinstance(fact, Swap) else -1
                    for label in labels & fact.intervals.keys():
                        others[fact.run, fact.chunk, label] += by
    except StateError:
        return labels
    return frozenset(label for (_, _, label), count in others.items() if count)


def _came_since(pipeline: Pipeline, manifest: Manifest, *, undoing: bool) -> list[str]:
    mine, labels = (manifest.run, manifest.chunk), set(manifest.labels)
    settles = not undoing and manifest.aside is not None and manifest.aside.changes
    standing: Counter[tuple[str, int]] = Counter()
    try:
        for commit in log.commits_after(pipeline.table.path, manifest.pin, pipeline.grain):
            match commit.fact:
                case Swap() as fact if undoing and (fact.run, fact.chunk) == mine:
                    standing.clear()  # what counts is what came on top
                case Swap() as fact if labels & {
                    label
                    for label, each in fact.intervals.items()
                    # Of a fold without a horizon the states may be others where the rows are not.
                    if settles or fact.carries or each.added or each.removed
                }:
                    standing[fact.run, fact.chunk] += 1
                case Undo() as fact if standing[fact.run, fact.chunk] > 0 or any(
                    fact.intervals.get(label) for label in labels
                ):
                    standing[fact.run, fact.chunk] -= 1
    except StateError as error:
        raise CommitConflict(
            f"{pipeline.name}: run {manifest.run} is older than the log: {error.message}",
            next_step="backfill anew",
            run=manifest.run,
        ) from None
    return [run for (run, chunk), count in standing.items() if count and (run, chunk) != mine]
