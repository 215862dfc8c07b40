"""A store of keys on its way to the tasks: by value, with the modules of the project that it is made of.

A cluster's machines need not have the project, and a driver that was started elsewhere than in its folder has it where
Python's workers do not look.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyspark.cloudpickle

from tidemill.config.loading import modules_of
from tidemill.deciding.carried import by_value
from tidemill.erasure.keys import KeyStore, key_store
from tidemill.model import Personal

_pickler: Any = pyspark.cloudpickle  # it has no types


@dataclass(frozen=True, slots=True)
class SentKeys:
    """A store as bytes, and the folder of its project, which a machine may have or not."""

    body: bytes
    root: str

    def open(self) -> KeyStore:
        """The store; made once a process."""
        return _opened(self.body, self.root)


def sent_keys(personal: Personal) -> SentKeys:
    """The store of an input's keys, to be sent along.

    What cannot go by value (a lock, a connection, at the top of its module) goes by name: then the module must be there, too.
    """
    store, root = key_store(personal.keys, personal.root), personal.root
    try:
        body = by_value(store, modules_of(root) if root else ())
    except Exception:  # noqa: BLE001  picklers raise whatever an object's own code raises
        body = bytes(_pickler.dumps(store))
    return SentKeys(body, root)


@lru_cache(maxsize=16)
def _opened(body: bytes, root: str) -> KeyStore:
    if root and root not in sys.path and Path(root).is_dir():
        sys.path.insert(0, root)  # as on the driver
    found: KeyStore = pickle.loads(body)  # noqa: S301  made by this run, on its driver
    return found
