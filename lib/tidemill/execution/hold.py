"""A swap that loses its races asks the live stream to wait between two batches: a lease named ``hold``, beside the others.

A stream of upserts rewrites what it merges into, so a swap of the same interval has lost as soon as a batch is published
after its pin. Nothing depends on the stream's waiting but that the swap gets its turn: that it does not lose rows, the swap's own
checks see to. So no answer is waited for, and a batch that is under way when the stream is asked may still come first.
Who asked and died, or hangs and does not renew it, holds nobody up: it guards nothing, so that it may simply run out.
"""

from __future__ import annotations

import threading
from datetime import datetime

from tidemill.clock import Clock, SystemClock
from tidemill.ledger.lease import Lease, gone, read
from tidemill.model import Pipeline
from tidemill.storage import place

_NAME = "hold"
_LOOK_SECONDS = 0.05


def hold(pipeline: Pipeline, run: str) -> Lease:
    """What keeps the pipeline's live stream from beginning another batch, while it is entered.

    Only the holder of the backfill lease asks, so whoever else holds this one is gone.
    """
    return Lease(pipeline.table.state_path, _NAME, what=f"swap of run {run}", take_over=True)


def wait_while_held(pipeline: Pipeline, stopping: threading.Event, clock: Clock | None = None) -> None:
    """Return when nobody asks the stream to wait, or it is to stop. Streams that only append are never asked."""
    if pipeline.table.mode != "upsert":
        return
    path, now = place(pipeline.table.state_path) / f"{_NAME}.lease", clock or SystemClock()
    while (holder := read(path)) is not None and not gone(holder, now.now()):
        if datetime.fromisoformat(holder.until) < now.now() or stopping.wait(_LOOK_SECONDS):
            return
