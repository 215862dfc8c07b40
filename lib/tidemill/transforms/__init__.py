"""Transforms: a pipeline's own code, run the same way on streams and on batches.

What tidemill brings for use in that code: :func:`dedup`.
"""

from __future__ import annotations

from tidemill.transforms.dedup import dedup

__all__ = ["dedup"]
