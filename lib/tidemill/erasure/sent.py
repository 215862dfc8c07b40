"""A store of keys on its way to the tasks, as bytes. Little is imported here, for each of Spark's Python processes does."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tidemill.erasure.keys import KeyStore


@dataclass(frozen=True, slots=True)
class SentKeys:
    """A store as bytes, and the folder of its project, which a machine may have or not."""

    body: bytes
    root: str

    def open(self) -> KeyStore:
        """The store; made once a process."""
        return _opened(self.body, self.root)


@lru_cache(maxsize=16)
def _opened(body: bytes, root: str) -> KeyStore:
    if root and root not in sys.path and Path(root).is_dir():
        sys.path.insert(0, root)  # as on the driver
    found: KeyStore = pickle.loads(body)  # noqa: S301  made by this run, on its driver
    return found
