"""What a withdrawal costs. One rule: the decider charges by it, and the projection of fees says by it what was due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FREE_UP_TO = 100_000
"""Cents that may be withdrawn at once without a fee."""
PER_MILLE = 5


def charged_part(amount: Any, greater: Callable[[Any, int], Any]) -> Any:
    """Give how much of a withdrawal is charged: what goes beyond the free amount. Of a number, or of a column of them."""
    return greater(amount - FREE_UP_TO, 0)


def fee(amount: int) -> int:
    """Give the fee of a withdrawal, in cents: five in a thousand of what is charged, rounded down."""
    return int(charged_part(amount, max)) * PER_MILLE // 1000
