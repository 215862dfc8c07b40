"""A project's code, loaded as its files have it now: what runs is what the fingerprint speaks of, in a long-lived process too."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ONE_AT_A_TIME = threading.RLock()
"""Who holds it while code of a project is at work sees no module of it loaded anew beside."""


def load(target: str, root: str) -> Any:
    """What ``module:name`` names, None where the module has no such name.

    The project's folder ``root`` comes first where modules are looked for, and stays there for those that are imported later. A
    module of the project that changed on disk, or that another project's module of the same name stands in for, is
    loaded anew. Raises what importing the module raises.
    """
    module, _, name = target.partition(":")
    with ONE_AT_A_TIME:
        if sys.path[:1] != [root]:
            sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]
        _forget_changed(module.partition(".")[0], root)
        try:
            loaded = importlib.import_module(module)
        finally:
            _seen.update(_stamps(root))
        return getattr(loaded, name, None)


def modules_of(root: str) -> tuple[ModuleType, ...]:
    """The modules of a project that are loaded; what is installed below its folder (.venv, lib) is none of them."""
    return tuple(module for _, module in _loaded(root))


def _loaded(root: str) -> Iterator[tuple[str, ModuleType]]:
    prefix = root.rstrip("/") + "/"
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and file.startswith(prefix) and name != "__main__" and _project_file(name, root):
            yield name, module


_seen: dict[str, tuple[str, int, int]] = {}
"""What each of the project's loaded modules was when it was loaded: its file, its time, its size."""


def _forget_changed(package: str, root: str) -> None:
    ours = _stamps(root)
    foreign = {
        name
        for name in sys.modules
        if (name == package or name.startswith(f"{package}."))
        and name not in ours
        and _project_file(package, root)
    }
    if foreign or any(_seen.get(name) != stamp for name, stamp in ours.items()):
        # All of them: they import each other, and an old one must not hold on to an old other.
        for name in {*ours, *foreign}:
            sys.modules.pop(name, None)
        for file, _, _ in ours.values():
            # Python takes compiled code for current when second and size agree; an edit can be quicker.
            Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)
        importlib.invalidate_caches()


def _stamps(root: str) -> dict[str, tuple[str, int, int]]:
    found = {}
    for name, module in _loaded(root):
        file = str(module.__file__)
        try:
            status = Path(file).stat()
        except FileNotFoundError:
            found[name] = (file, -1, -1)
        else:
            found[name] = (file, status.st_mtime_ns, status.st_size)
    return found


def _project_file(name: str, root: str) -> bool:
    local = Path(root, *name.split("."))
    return local.with_suffix(".py").is_file() or (local / "__init__.py").is_file() or local.is_dir()
