"""The text of a transform given as an object (a function in a notebook), and of all that it reaches.

Values in reach count by content: constants, containers of them, captured variables, defaults. Functions and
classes count by their source, modules of the project whole, everything installed by name only.
"""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from tidemill.config.source import normal, whole

_PLAIN = (type(None), bool, int, float, complex, str, bytes, Decimal, date, time, timedelta)
_INSTALLED = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")})


def reached(call: Any, root: str) -> str:
    """``call`` and all it reaches, as one text; the same in every process."""
    parts: list[str] = []
    waiting: list[tuple[str, Any]] = [("", call)]
    # With the values: one that is gone would leave its number to the next, which then would not count.
    seen: dict[int, Any] = {}
    files: set[tuple[Path, str]] = set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, _PLAIN):
            parts.append(f"{name}={value!r}")
            continue
        if id(value) in seen:
            continue
        seen[id(value)] = value
        parts.append(f"{name}={_own(value, root, files)}")
        waiting += _next(name, value)
    return "\n".join(sorted(parts))


def _own(value: Any, root: str, files: set[tuple[Path, str]]) -> str:
    if isinstance(value, (set, frozenset)):
        return repr(sorted(map(repr, value)))
    if isinstance(value, ModuleType):
        path = Path(getattr(value, "__file__", None) or "")
        local = not _installed(value.__name__) and path.suffix == ".py"
        return "".join(whole(path, root, files)) if local else f"installed {value.__name__}"
    if isinstance(value, FunctionType):
        return f"installed {value.__qualname__}" if _installed(value.__module__) else _source(value)
    kind = value if isinstance(value, type) else type(value)
    if kind.__module__ == "builtins" or _installed(kind.__module__) or not isinstance(value, type):
        return f"{kind.__module__}.{kind.__qualname__}"
    return _source(value)


def _next(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            yield from ((f"{name}[{key!r}]", each) for key, each in value.items())
        case list() | tuple():
            yield from ((f"{name}[{i}]", each) for i, each in enumerate(value))
        case functools.partial():
            yield f"{name}()", [value.func, value.args, value.keywords]
        case MethodType():
            yield f"{name}()", [value.__func__, value.__self__]
        case FunctionType() if not _installed(value.__module__):
            yield from _names(value)
        case type() if not _installed(value.__module__):
            yield from ((f"{name}.{n}", each) for n, each in vars(value).items() if _counts(n, each))
            yield from ((base.__qualname__, base) for base in value.__bases__)
        case _ if not _installed(type(value).__module__):
            yield type(value).__qualname__, type(value)
            yield from ((f"{name}.{n}", each) for n, each in getattr(value, "__dict__", {}).items())


def _counts(name: str, value: Any) -> bool:
    return isinstance(value, FunctionType) or not (name.startswith("__") or callable(value))


def _names(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name in sorted(set(_globals_of(function.__code__))):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # not yet set
    yield f"{function.__name__} defaults", [function.__defaults__, function.__kwdefaults__]


def _globals_of(code: CodeType) -> Iterator[str]:
    yield from (i.argval for i in dis.get_instructions(code) if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"})
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _globals_of(const)


def _source(value: Any) -> str:
    # The source of a lambda is the line it stands on, with whatever else stands there.
    if getattr(value, "__name__", "") != "<lambda>":
        try:
            return normal(ast.parse(textwrap.dedent(inspect.getsource(value))))
        except (OSError, TypeError, SyntaxError):
            pass
    return (
        _code(value.__code__)
        if isinstance(value, FunctionType)
        else f"{value.__module__}.{value.__qualname__}"
    )


def _code(code: CodeType) -> str:
    consts = [_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, consts))


def _installed(module: str | None) -> bool:
    if module in (None, "builtins") or str(module).partition(".")[0] == "tidemill":
        return True  # tidemill, too, where it is installed by a link to its sources
    if module == "__main__":
        return False
    file = getattr(sys.modules.get(str(module)), "__file__", None)
    return file is None or any(Path(file).resolve().is_relative_to(folder) for folder in _INSTALLED)
