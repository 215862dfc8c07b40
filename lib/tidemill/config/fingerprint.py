"""The fingerprint: a hash of everything in a pipeline that decides what its rows are.

Two pipelines with one fingerprint give the same rows from the same input. It covers the meaningful part of
the specification and the source of the transforms: each function, and what it reaches by name in its own
module and in other modules of the project, compared as syntax trees, so that comments, docstrings and
layout do not count. Nothing is imported: ``status`` computes it in milliseconds. What cannot be followed
by name (a star import) counts as the whole module, never as nothing. Installed packages count by name only.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from tidemill.errors import ConfigError
from tidemill.model import Pipeline, Step

_NOT_ROWS = {"trigger", "gate", "chunk", "spark", "description", "start"}


def fingerprint(pipeline: Pipeline, root: str) -> str:
    """The fingerprint, 16 hex digits. ``root`` is the folder from which project modules are found.

    Raises :class:`ConfigError` when a transform's module or function is not there.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps(_specification(pipeline), sort_keys=True).encode())
    for step in pipeline.transform:
        digest.update(_step(step, root).encode())
    return digest.hexdigest()[:16]


def _specification(pipeline: Pipeline) -> dict[str, Any]:
    body = pipeline.model_dump(mode="json", exclude=_NOT_ROWS | {"transform"})
    for each in body["inputs"].values():
        for kind in ("files", "delta"):
            if each[kind]:
                # Where rows are kept, and in what portions they come, does not decide what they are.
                each[kind].pop("path")
                each[kind].pop("max_files_per_batch")
    table = body.pop("sink")["delta"]
    body["sink"] = {name: table[name] for name in ("mode", "key", "order_by")}
    return body


def _step(step: Step, root: str) -> str:
    if step.sql is not None:
        return "sql " + " ".join(step.sql.split())
    if step.function is not None:
        module, _, name = step.function.partition(":")
        path = find_module(module, root)
        if path is None:
            raise ConfigError(
                f"the transform {step.function!r} names a module that is not there",
                next_step=f"write {module.replace('.', '/')}.py under {root}, or correct the name",
                field="transform",
            )
        if name not in _definitions(path):
            raise ConfigError(
                f"{module} has no function {name!r}",
                next_step=f"it has: {', '.join(sorted(n for n in _definitions(path) if n[0] != '_')) or 'none'}",
                field="transform",
                file=str(path),
            )
        if not path.resolve().is_relative_to(Path(root).resolve()):
            return f"installed {step.function}"
        return "".join(_closure(path, name, root, set()))
    return _object(step.call)


def _object(call: Callable[..., Any] | None) -> str:
    # A function defined in a notebook: its own source, and the plain functions it reaches by name.
    parts, waiting, seen = [], [call], set()
    while waiting:
        current = waiting.pop()
        if not inspect.isfunction(current) or current.__code__ in seen:
            continue
        seen.add(current.__code__)
        try:
            parts.append(_normal(ast.parse(textwrap.dedent(inspect.getsource(current)))))
        except (OSError, SyntaxError):
            parts.append(current.__code__.co_code.hex() + repr(current.__code__.co_consts))
        module = current.__module__
        for name in current.__code__.co_names:
            value = current.__globals__.get(name)
            if inspect.isfunction(value) and value.__module__ == module:
                waiting.append(value)
            elif isinstance(value, (int, float, str, bytes, bool, tuple)):
                parts.append(f"{name}={value!r}")
    return "".join(sorted(parts))


def find_module(name: str, root: str) -> Path | None:
    """The file of a module, below ``root`` or on ``sys.path``, without importing anything."""
    parts = name.split(".")
    local = Path(root, *parts)
    for candidate in (local.with_suffix(".py"), local / "__init__.py"):
        if candidate.is_file():
            return candidate
    search: list[str] | None = [p for p in sys.path if p]
    for index in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: index + 1]), search)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _closure(path: Path, name: str, root: str, seen: set[tuple[Path, str]]) -> Iterator[str]:
    if (path, name) in seen:
        return
    seen.add((path, name))
    definitions = _definitions(path)
    node = definitions.get(name)
    if node is None or "*" in definitions:
        yield from _whole(path, root, seen)
        return
    yield f"{name}:"
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from _imported(path, node, name, root, seen)
        return
    yield _normal(node)
    yield from _inner_imports(path, node, root, seen)
    for used in sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name)}):
        if used != name and used in definitions:
            yield from _closure(path, used, root, seen)


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
            yield from _whole(inner, root, seen)
        elif local is not None:
            yield from _closure(local, alias.name, root, seen)
    elif (local := _local(alias.name, root)) is not None:
        yield from _whole(local, root, seen)


def _whole(path: Path, root: str, seen: set[tuple[Path, str]]) -> Iterator[str]:
    # Used as an object, or by a star: any part of the module may matter, and what it imports too.
    if (path, "*") in seen:
        return
    seen.add((path, "*"))
    tree = _tree(path)
    yield _normal(tree)
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
            yield from _whole(local, root, seen)


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
    return ast.parse(path.read_text(encoding="utf-8"))


def _tree(path: Path) -> ast.Module:
    status = path.stat()
    return _parsed(path, (status.st_mtime_ns, status.st_size))


def _definitions(path: Path) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in _tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update({alias.asname or alias.name.split(".")[0]: node for alias in node.names})
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update({n.id: node for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)})
    return found


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Module = _strip  # noqa: N815


def _normal(node: ast.AST) -> str:
    copy = ast.parse(ast.unparse(node))
    return ast.dump(_WithoutDocstrings().visit(copy))
