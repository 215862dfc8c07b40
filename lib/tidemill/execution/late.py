"""Which intervals a batch's input touched too late for the stream's state."""

from __future__ import annotations

from tidemill.execution.streamplan import Inspector, Nature
from tidemill.execution.touched import below, reached
from tidemill.model import Pipeline


def late(
    pipeline: Pipeline, nature: Nature, inspector: Inspector, buckets: list[int], watermark: int
) -> tuple[str, ...]:
    """Their labels. ``buckets``: the event times that the input touched; ``watermark``: of the batch before, in epoch
    milliseconds, by which Spark drops rows.
    """
    fold = nature.fold
    if pipeline.recorded:
        return ()  # what was decided stays, whatever comes
    if fold is not None and fold.emit == "immediate":
        # What came out depends on the order of arrival, wherever it may reach.
        return reached(pipeline, buckets)
    if not nature.stateful or watermark <= 0:
        return ()
    labels = below(pipeline, buckets, watermark)
    # Sessions can split without a row being dropped, and folds drop rows themselves: there, touching is enough.
    touching = fold is not None or (bool(labels) and inspector.sessions())
    return labels if labels and (touching or inspector.dropped()) else ()
