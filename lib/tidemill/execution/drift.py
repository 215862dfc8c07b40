"""Whether a saved plan still says what would happen."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import SparkSession

from tidemill.config import Project
from tidemill.errors import PlanError
from tidemill.planning.plan import Plan
from tidemill.sinks.target import reopen


def check_drift(project: Project, plan: Plan, spark: Callable[[], SparkSession]) -> None:
    """Raise :class:`PlanError` when a saved plan no longer says what would happen."""
    pipeline = project.pipeline(plan.pipeline)
    now = project.fingerprint(plan.pipeline)
    if now != plan.fingerprint:
        raise PlanError(
            f"the plan was made with code {plan.fingerprint[:8]}, and the code is now {now[:8]}",
            next_step="plan again",
            pipeline=plan.pipeline,
        )
    if plan.pin.version < 0:
        return
    table = reopen(pipeline, spark)
    labels = {interval.label for interval in plan.intervals}
    live = table.live_files() if table else {}
    pinned = table.files_at(plan.pin.version) if table else {}
    moved = sorted({f.label for f in pinned.values() if f.label in labels and f.path not in live})
    if table is None or moved:
        raise PlanError(
            f"the table has changed since the plan was made: {', '.join(moved[:5]) or 'it is gone'}",
            next_step="plan again",
            intervals=moved,
        )
