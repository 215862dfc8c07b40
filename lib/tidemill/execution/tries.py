"""The attempts at one chunk that loses races: what was staged is followed up, and a busy stream asked to wait."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tidemill.execution import swap
from tidemill.execution.follow import beside, follow, may_follow, only_grew
from tidemill.execution.hold import hold
from tidemill.intervals import Interval
from tidemill.planning.plan import Pin
from tidemill.view import taken_beside

if TYPE_CHECKING:
    from tidemill.execution.backfill import Job


@dataclass(slots=True)
class Tries:
    """What the attempts at one chunk have come to: what the last one staged, and whether that can be followed up."""

    staged: swap.Staged | None = None
    follows: bool = False
    outdated: swap.Staged | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)

    def stage(self, job: Job, pin: Pin, intervals: tuple[Interval, ...], whose: str) -> swap.Staged:
        """Stage at a pin: what came since the last attempt's, where that is enough. ``whose``: the name of states."""
        before, self.staged = self.staged, None
        taken = taken_beside(job.project, job.pipeline)
        # What is read whole, as it is, has to be the same for rows of before and those that came since.
        stood, self.beside = self.beside, beside(job.pipeline)
        may = before is not None and self.follows and self.beside == stood
        if before is not None and may and only_grew(job.pipeline, before.pin, pin):
            followed = follow(job.spark, job.pipeline, before, pin, intervals, job.project.root)
            if beside(job.pipeline) == stood:
                self.staged, self.outdated = followed, before
                return followed
            followed.discard()
            self.beside = beside(job.pipeline)
        fresh = swap.stage_chunk(job.spark, job.pipeline, pin, intervals, job.project.root, whose)
        self.staged = replace(fresh, beside=taken)
        return self.staged

    def tidy(self) -> None:
        """The manifest names the new files: those that they were made of are of no use."""
        if self.outdated is not None:
            self.outdated.discard()
            self.outdated = None


def ask_to_wait(job: Job, tries: Tries, attempt: int, holding: ExitStack) -> None:
    """Have the live stream wait: at once where the next attempt is short, after the second race where it begins anew."""
    if attempt == 0:
        tries.follows = may_follow(job.spark, job.pipeline, job.project.root)
    if tries.follows == (attempt == 0):
        holding.enter_context(hold(job.pipeline, job.run))
