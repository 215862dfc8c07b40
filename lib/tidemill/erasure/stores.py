"""The stores of keys that a configuration names, made on the driver, and packed for the tasks.

They go by value, with the modules of the project that they are made of: a cluster's machines need not have the project, and a
driver that was started elsewhere than in its folder has it where Spark's Python processes do not look.
"""

from __future__ import annotations

import importlib
from typing import Any

import pyspark.cloudpickle

from tidemill.by_value import by_value
from tidemill.config.loading import load, modules_of
from tidemill.erasure.keys import FileKeys, KeyStore
from tidemill.erasure.sent import SentKeys
from tidemill.errors import ConfigError, StateError
from tidemill.model import Personal
from tidemill.model.source import is_factory

_pickler: Any = pyspark.cloudpickle  # it has no types


def key_store(said: str, root: str = "") -> KeyStore:
    """The store that a configuration names: ``module:factory``, of the project in ``root``, or the path of a file.

    Raises :class:`ConfigError` when the factory is not there, or gives something else; :class:`StateError` when it fails.
    """
    if not is_factory(said):
        return FileKeys(said)
    module, _, name = said.partition(":")
    try:
        factory = load(said, root) if root else getattr(importlib.import_module(module), name, None)
        if factory is None:
            raise ImportError(f"{module} has no {name!r}")  # noqa: TRY301  one error, whichever of both is missing
        made = factory()
    except ImportError as error:
        raise ConfigError(
            f"keys: {said} is not there: {error}",
            next_step="name a function without arguments that gives a tidemill.erasure.KeyStore, or a file",
            field="personal.keys",
        ) from None
    except Exception as error:
        raise StateError(
            f"the keys {said} cannot be used: {type(error).__name__}: {error}",
            next_step="see to what the function needs",
            keys=said,
        ) from error
    if not isinstance(made, KeyStore):
        raise ConfigError(
            f"keys: {said} gives {type(made).__name__}",
            next_step="give a tidemill.erasure.KeyStore",
            field="personal.keys",
        )
    return made


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
