"""The fault matrix: its rows by number, and what a run of one has seen."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tidemill.testing import Guard

TITLES = {
    1: "kill -9 of the process group, live",
    2: "kill -9, backfill",
    3: "swap against live appends, every order of phases",
    4: "late rows between stage and swap",
    5: "two live drivers on one pipeline",
    6: "zombie driver",
    8: "unreadable files and broken records",
    9: "schema drift",
    10: "duplicates, late, reordered",
    11: "disk full",
    12: "object store: 503, no answer in time, a lost reply to a conditional write",
    13: "broker gone in the middle of a batch, retention passed, topic made anew",
    14: "checkpoint deleted, corrupt, shared",
    15: "vacuum and log cleanup against slow readers, undo and resume",
    16: "daylight saving, session zone changed",
    17: "random mixture of all",
}


@dataclass(slots=True)
class Tally:
    """What a test of one row has seen. ``runs``: of a verb, one at least. ``lost``, ``doubled``: rows against the oracle; ``recovery_s_max``: from a
    restart to its first commit, or to its end where nothing was left to do; ``replayed``: rows that were read again.
    """

    row: int
    runs: int = 0
    kills: int = 0
    lost: int = 0
    doubled: int = 0
    mixed_reads: int = 0
    reads: int = 0
    retries_max: int = 0
    recovery_s_max: float = 0.0
    replayed: int = 0

    def recovered(self, seconds: float) -> None:
        self.recovery_s_max = max(self.recovery_s_max, seconds)

    def retried(self, times: int) -> None:
        self.retries_max = max(self.retries_max, times)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "runs": max(1, self.runs), "title": TITLES[self.row]}


def report_mutant(guard: Guard, noticed: str | None) -> None:
    """Write to TIDEMILL_FIRE_OUT, when that is set, whether a guard's absence was noticed, and by what."""
    if "TIDEMILL_FIRE_OUT" in os.environ:
        report = Path(os.environ["TIDEMILL_FIRE_OUT"]) / f"mutant-{guard}.json"
        report.write_text(json.dumps({"mutant": guard, "caught": noticed is not None, "by": noticed}))
