"""What is not done to an event store: its rows are what was decided, and nothing computes them again. Pure."""

from __future__ import annotations

from tidemill.errors import PlanError
from tidemill.model import Pipeline


def check_not_replayed(pipeline: Pipeline) -> None:
    """Raise :class:`PlanError` for an event store: what decides again would do so by the events' times, and not as they came."""
    check_not_recorded(
        pipeline,
        "replayed",
        f"what today's code would have decided, in the order of then: tidemill redecide {pipeline.name}; what follows from its events "
        "is a pipeline over its table, which is replayed as any other",
    )


def check_not_recorded(pipeline: Pipeline, what: str, next_step: str | None = None) -> None:
    """Raise :class:`PlanError` for an event store; ``what``: what it is not, as in "backfilled"."""
    if pipeline.recorded:
        raise PlanError(
            f"{pipeline.name} is an event store, which is not {what}: its events are what was decided, in the order in which "
            "commands arrived",
            next_step=next_step
            or f"what today's code would have decided: tidemill redecide {pipeline.name}; projections of it are "
            "backfilled as any table",
            pipeline=pipeline.name,
        )
