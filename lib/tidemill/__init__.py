"""tidemill: a microbatch pipeline engine on Spark whose backfills are exact.

Importing this package loads neither pyspark nor deltalake; :class:`Engine` loads them when a verb needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidemill.errors import (
    CommitConflict,
    ConfigError,
    EnvironmentProblem,
    LeaseHeld,
    PlanError,
    QualityError,
    SourceError,
    StateError,
    TidemillError,
    TransformError,
)
from tidemill.intervals import Grain, Interval

if TYPE_CHECKING:
    from tidemill.engine import Engine

__version__ = "0.1.0"
__all__ = [
    "CommitConflict",
    "ConfigError",
    "Engine",
    "EnvironmentProblem",
    "Grain",
    "Interval",
    "LeaseHeld",
    "PlanError",
    "QualityError",
    "SourceError",
    "StateError",
    "TidemillError",
    "TransformError",
]


def __getattr__(name: str) -> Any:
    # The engine stands below the Spark line; it is loaded by the first who asks for it.
    if name == "Engine":
        from tidemill.engine import Engine

        return Engine
    raise AttributeError(name)
