"""Event sourcing on Spark: commands decided on a stream, sagas, and events brought up to today's schema.

:func:`decide` is what a pipeline's step ``decide`` runs; :func:`react` and :func:`upcast` are for the transforms of a project.
"""

from __future__ import annotations

from tidemill.deciding.frame import decide
from tidemill.deciding.react import react, upcast

__all__ = ["decide", "react", "upcast"]
