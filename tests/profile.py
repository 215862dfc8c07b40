"""How long the tests may take: TIDEMILL_PROFILE is ``ci`` (minutes) or ``nightly`` (hours)."""

from __future__ import annotations

import os

FULL = os.environ.get("TIDEMILL_PROFILE") == "nightly"
