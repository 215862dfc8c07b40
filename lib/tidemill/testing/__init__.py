"""The test kit: scenarios of a pipeline, with crashes at named points, held against an oracle.

>>> from tidemill.testing import Scenario, add, crash, run, Point  # doctest: +SKIP
"""

from __future__ import annotations

from tidemill.protocol import Point, listening
from tidemill.testing.law import Breach, breaches, published, rows_of
from tidemill.testing.mutants import Guard, without
from tidemill.testing.processes import Process
from tidemill.testing.scenario import Broken, Scenario, Step
from tidemill.testing.source import MemorySource
from tidemill.testing.steps import (
    add,
    advance,
    backfill,
    crash,
    edit,
    kill,
    late,
    maintain,
    poison,
    release,
    resume,
    run,
    stage,
    start,
    stop,
    swap,
    undo,
    until,
    verify,
    whole,
)

__all__ = [
    "Breach",
    "Broken",
    "Guard",
    "MemorySource",
    "Point",
    "Process",
    "Scenario",
    "Step",
    "add",
    "advance",
    "backfill",
    "breaches",
    "crash",
    "edit",
    "kill",
    "late",
    "listening",
    "maintain",
    "poison",
    "published",
    "release",
    "resume",
    "rows_of",
    "run",
    "stage",
    "start",
    "stop",
    "swap",
    "undo",
    "until",
    "verify",
    "whole",
    "without",
]
