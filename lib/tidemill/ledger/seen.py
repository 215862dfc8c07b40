"""The last batches that a ledger has seen, for status."""

from __future__ import annotations

from dataclasses import dataclass

RECENT = 20
"""How many are kept; so many are kept of an expectation's judgements, too."""


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """One of the last batches, for status."""

    batch: int
    version: int
    at: int
    input_rows: int
    rows: int
    quarantined: int
