"""Code of a project on its way to Spark's Python processes, with its modules: they need not have them, nor as they are now."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pyspark.cloudpickle

# It has no types.
_pickler: Any = pyspark.cloudpickle
# What goes by value is one list for all of a process.
_ONE_AT_A_TIME = threading.Lock()


def by_value(what: Any, modules: Iterable[ModuleType]) -> bytes:
    """A value as bytes, with what it takes from these modules: where it is opened they need not be there."""
    with _ONE_AT_A_TIME:
        fresh = [each for each in modules if each.__name__ not in _pickler.list_registry_pickle_by_value()]
        for module in fresh:
            _pickler.register_pickle_by_value(module)
        try:
            return bytes(_pickler.dumps(what))
        finally:
            for module in fresh:
                _pickler.unregister_pickle_by_value(module)
