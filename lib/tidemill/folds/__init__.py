"""Ordered folds: state of your own, stepped in event-time order, the same on a stream and on a batch.

:class:`Fold` says what is folded, :func:`fold` runs it over a frame.
"""

from __future__ import annotations

from tidemill.folds.definition import Fold
from tidemill.folds.frame import fold

__all__ = ["Fold", "fold"]
