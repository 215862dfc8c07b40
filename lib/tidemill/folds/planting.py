"""A stream's states as they are made for it elsewhere: what is asked for, and what a stream begins anew with. Pure; no Spark.

They are those of one moment, up to and with which every row has been stepped and every timer has run; with them come the rows
that lie after it and wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Planting:
    """``folder``: where the states and rows of each bucket lie; ``reached``: their moment, in epoch microseconds.

    ``buckets``: how many the store may have had; those that are no more are emptied.
    """

    folder: str
    reached: int
    buckets: int = 0


@dataclass(frozen=True, slots=True)
class Sowing:
    """Asks a batch of a fold for its states at the moment ``reached`` (epoch microseconds): rows after it are not stepped.

    ``found`` is given what the fold has over its frame: its shape, the rows with their keys, and how it is described in plans.
    """

    reached: int
    found: list[tuple[Any, Any, dict[str, Any]]] = field(default_factory=list)
