"""A real process that a scenario starts and kills: `python worker.py PROJECT live|stream|backfill|cron PIPELINE...`."""

from __future__ import annotations

import sys
from datetime import timedelta

from tidemill import Engine
from tidemill.cli.app import main as tidemill
from tidemill.ledger.coverage import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the verb; 0 when nothing failed."""
    project, verb, *names = sys.argv[1:]
    if verb == "cron":
        # The guide's cron line, word for word.
        tidemill(["--project", project, "backfill", names[0], *["--dirty", "--stale", "--missing", "--yes"]])
        return 0
    engine = Engine(project, say=_say)
    if verb == "backfill":
        for name in names:
            engine.backfill(name, Request(states=frozenset({State.DIRTY, State.STALE})))
        return 0
    trigger = (
        Trigger(available_now=True)
        if verb == "live"
        else Trigger(processing_time=timedelta(milliseconds=100))
    )
    outcomes = engine.run(*names, trigger=trigger)
    for outcome in outcomes:
        _say(f"{outcome.pipeline} {outcome.batches} {outcome.error}")
    return 1 if any(outcome.error for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
