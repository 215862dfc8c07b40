"""A project's domain on its way to the tasks: by value, with its modules, so that what runs is what the driver has loaded."""

from __future__ import annotations

import pickle
import sys
from functools import lru_cache
from typing import Any

from tidemill.by_value import by_value
from tidemill.eventsourcing import Domain, Saga


def carried(domain: Domain, saga: Saga | None = None) -> bytes:
    """A domain, and a saga over it, as bytes, whatever modules of the project they are made of.

    Together, so that a class that both name is one class where they are opened.
    """
    kinds: list[type] = [type(domain), type(saga)]
    for decider in domain.deciders.values():
        kinds += [type(decider), type(decider.initial()), *decider.commands, *decider.events]
    packages = {kind.__module__.partition(".")[0] for kind in kinds} - {"tidemill", "__main__", "builtins"}
    # All that is loaded of the project: deciders call what other modules of it define.
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in packages and module is not None
    ]
    return by_value((domain, saga), modules)


@lru_cache(maxsize=16)
def both(source: bytes) -> tuple[Domain, Any]:
    """What :func:`carried` made bytes of; loaded once a process."""
    found: tuple[Domain, Any] = pickle.loads(source)  # noqa: S301  # made by this run, on its driver
    return found


def opened(source: bytes) -> Domain:
    """The domain alone."""
    return both(source)[0]
