"""What the fire takes out of the engine is still there, and taken out where it is used: seen in seconds, not by a nightly fire."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tidemill
from tidemill.testing import Guard
from tidemill.testing.mutants import _REMOVALS

LIBRARY = Path(tidemill.__file__).parent
REMOVALS = [
    pytest.param(*each, id=f"{guard}-{each[1]}") for guard, removals in _REMOVALS.items() for each in removals
]


def test_each_guard_can_be_removed() -> None:
    assert set(Guard) == _REMOVALS.keys()
    assert all(_REMOVALS.values())


@pytest.mark.parametrize(("owner", "name", "instead"), REMOVALS)
def test_what_is_removed_is_there_and_called_as_what_takes_its_place(
    owner: Any, name: str, instead: Any
) -> None:
    there = inspect.signature(getattr(owner, name)).parameters.values()
    by_place = [
        each.name for each in there if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}
    ]
    by_name = {each.name: None for each in there if each.kind is each.KEYWORD_ONLY}
    inspect.signature(instead).bind(*by_place, **by_name)


@pytest.mark.parametrize(("owner", "name", "instead"), REMOVALS)
def test_it_is_removed_where_it_is_used(owner: Any, name: str, instead: Any) -> None:
    """A module's name that others have imported as their own stays theirs, whatever is put in its place."""
    if not isinstance(owner, ModuleType):
        return  # a method is looked up each time
    users = [path for path in LIBRARY.rglob("*.py") if _uses(path, owner, name)]
    assert users, f"nothing calls {owner.__name__}.{name}"


def _uses(path: Path, owner: ModuleType, name: str) -> bool:
    text = path.read_text(encoding="utf-8")
    if "testing" in path.parts or name not in text:
        return False
    mine, module = path == Path(str(owner.__file__)), owner.__name__.rpartition(".")[2]
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Name(id=found, ctx=ast.Load()) if mine and found == name:
                return True
            case ast.Attribute(value=ast.Name(id=of), attr=found) if (of, found) == (module, name):
                return True
    return False
