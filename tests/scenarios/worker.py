"""A real process that a scenario starts and kills: `python worker.py PROJECT live|stream|backfill PIPELINE...`."""

from __future__ import annotations

import sys
from datetime import timedelta

from tidemill import Engine
from tidemill.ledger.coverage import State
from tidemill.model import Trigger
from tidemill.planning.selection import Request


def main() -> int:
    """Run the verb; 0 when nothing failed."""
    project, verb, *names = sys.argv[1:]
    engine = Engine(project, say=lambda line: print(line, flush=True))
    if verb == "backfill":
        for name in names:
            engine.backfill(name, Request(states=frozenset({State.DIRTY, State.STALE})))
        return 0
    trigger = Trigger(available_now=True) if verb == "live" else Trigger(processing_time=timedelta(milliseconds=100))
    outcomes = engine.run(*names, trigger=trigger)
    for outcome in outcomes:
        print(outcome.pipeline, outcome.batches, outcome.error, flush=True)
    return 1 if any(outcome.error for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
