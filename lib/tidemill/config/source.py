"""The source of a function and of all it reaches by name, as normal text; nothing is imported.

A name means every top-level statement that binds it or, in a block or a call, so much as mentions it. What
cannot be followed by name (a star import) counts as the whole module, never as nothing. Installed packages
count by name only.
"""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from tidemill.errors import ConfigError


def find_module(name: str, root: str) -> Path | None:
    """The file of a module, below ``root`` or on ``sys.path``, without importing anything."""
    parts = name.split(".")
    local = Path(root, *parts)
    for candidate in (local.with_suffix(".py"), local / "__init__.py"):
        if candidate.is_file():
            return candidate
    search = [p for p in sys.path if p]
    spec = None
    for index in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: index + 1]), search)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def closure(path: Path, name: str, root: str, seen: set[tuple[Path, str]]) -> Iterator[str]:
    """The text of ``name`` in the module at ``path`` and of all it reaches; ``seen`` is passed over, and grows."""
    if (path, name) in seen:
        return
    seen.add((path, name))
    known = definitions(path)
    if name not in known or "*" in known:
        yield from whole(path, root, seen)
        return
    yield f"{name}:"
    for node in known[name]:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _imported(path, node, name, root, seen)
            continue
        yield normal(node)
        yield from _inner_imports(path, node, root, seen)
        for used in sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name)}):
            if used != name and used in known:
                yield from closure(path, used, root, seen)


def _imported(
    path: Path, node: ast.Import | ast.ImportFrom, name: str, root: str, seen: set[tuple[Path, str]]
) -> Iterator[str]:
    yield ast.dump(node)
    alias = next(a for a in node.names if (a.asname or a.name.split(".")[0]) == name)
    if isinstance(node, ast.ImportFrom):
        base = _absolute(path, node, root)
        local = _local(base, root)
        inner = _local(f"{base}.{alias.name}", root)
        if inner is not None:
            yield from whole(inner, root, seen)
        elif local is not None:
            yield from closure(local, alias.name, root, seen)
    elif (local := _local(alias.name, root)) is not None:
        yield from whole(local, root, seen)


def whole(path: Path, root: str, seen: set[tuple[Path, str]]) -> Iterator[str]:
    """The text of a module used as an object, or by a star: any part may matter, and what it imports too."""
    if (path, "*") in seen:
        return
    seen.add((path, "*"))
    tree = _tree(path)
    yield normal(tree)
    yield from _inner_imports(path, tree, root, seen)


def _inner_imports(path: Path, node: ast.AST, root: str, seen: set[tuple[Path, str]]) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom):
            base = _absolute(path, inner, root)
            names = [base, *(f"{base}.{alias.name}" for alias in inner.names)]
        elif isinstance(inner, ast.Import):
            names = [alias.name for alias in inner.names]
        else:
            continue
        for local in filter(None, (_local(name, root) for name in names)):
            yield from whole(local, root, seen)


def _absolute(path: Path, node: ast.ImportFrom, root: str) -> str:
    if not node.level:
        return node.module or ""
    package = path.resolve().relative_to(Path(root).resolve()).parent
    for _ in range(node.level - 1):
        package = package.parent
    return ".".join([*package.parts, *(node.module or "").split(".")]).strip(".")


def _local(module: str, root: str) -> Path | None:
    # Only the project's own modules are followed; installed packages count by name.
    local = Path(root, *module.split("."))
    return next((c for c in (local.with_suffix(".py"), local / "__init__.py") if c.is_file()), None)


@lru_cache(maxsize=64)
def _parsed(path: Path, stamp: tuple[int, int]) -> ast.Module:
    del stamp  # only a part of the cache's key
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ConfigError(
            f"{path}:{error.lineno}: {error.msg}",
            next_step="correct the module",
            file=str(path),
            line=error.lineno or 1,
            field="transform",
        ) from None


def _tree(path: Path) -> ast.Module:
    status = path.stat()
    return _parsed(path, (status.st_mtime_ns, status.st_size))


def definitions(path: Path) -> dict[str, list[ast.stmt]]:
    """For each name of a module, the top-level statements that have a hand in what it is."""
    found: dict[str, list[ast.stmt]] = {}
    for node in _tree(path).body:
        for name in _names(node):
            found.setdefault(name, []).append(node)
    return found


def _names(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name.split(".")[0] for alias in node.names}
        case ast.Assign():
            return {name for target in node.targets for name in _mentioned(target)}
        case ast.AnnAssign() | ast.AugAssign():
            return _mentioned(node.target)
        case ast.If() if _is_main(node.test):
            return set()
        case _:
            # if, try, for, with, or a call that may change what it is given
            return _mentioned(node)


def _mentioned(node: ast.AST) -> set[str]:
    names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    for inner in ast.walk(node):
        if isinstance(
            inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
        ):
            names |= _names(inner)
    return names


def _is_main(test: ast.expr) -> bool:
    return "__name__" in _mentioned(test)


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Module = _strip  # noqa: N815


def normal(node: ast.AST) -> str:
    """A syntax tree as text, without comments, docstrings and layout."""
    copy = ast.parse(ast.unparse(node))
    return ast.dump(_WithoutDocstrings().visit(copy))
