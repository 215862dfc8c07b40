"""What a withdrawal costs. One rule: the decider charges by it, and the projection of fees says by it what was due."""

from __future__ import annotations

FREE_UP_TO = 100_000
"""Cents that may be withdrawn at once without a fee."""
PER_MILLE = 5


def fee(amount: int) -> int:
    """The fee of a withdrawal, in cents: five in a thousand of what goes beyond the free amount, rounded down."""
    return max(0, amount - FREE_UP_TO) * PER_MILLE // 1000
