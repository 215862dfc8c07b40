"""What can be seen of non-determinism in a pipeline's code, without running it.

A backfill repeats what a live batch did, perhaps years later; a transform that asks the clock, rolls dice or
depends on the order in which rows happen to lie cannot be repeated. Its source is read as a syntax tree: the
functions that the pipeline names and what they reach by name in the project's own modules. What is found is
certain enough to be refused; what is not found is not proven (``tidemill verify`` looks at the rows).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill.config.fingerprint import find_module
from tidemill.model import Pipeline

_RANDOM = "gives other values each time it runs"
_CLOCK = "asks the clock"
_PLACE = "depends on how the rows are spread over partitions"
_ORDER = "takes whichever row comes first, and rows come in no fixed order"
_LETTERS = "is a text, whose letters would be taken for columns"

_NEXT = {
    _RANDOM: "derive the value from the row, for example F.xxhash64 of its key",
    _CLOCK: "use the event time that the row carries",
    _PLACE: "derive the value from the row, for example F.xxhash64 of its key",
    _LETTERS: "write a tuple, with its comma: key = ('user',)",
    _ORDER: "use F.min or F.max, F.min_by or F.max_by, or a window with an order: F.first(x).over(w)",
}

_SPARK = {
    **dict.fromkeys(["rand", "randn", "random", "randstr", "uniform", "uuid", "shuffle"], _RANDOM),
    **dict.fromkeys(
        ["current_timestamp", "now", "current_date", "curdate", "current_time", "localtimestamp"], _CLOCK
    ),
    **dict.fromkeys(["monotonically_increasing_id", "spark_partition_id"], _PLACE),
}
_PICKS = ("first", "last", "any_value", "first_value", "last_value")
"""Aggregates that pick a row; over a window with an order they are sound."""

_PYTHON = {
    **dict.fromkeys(
        [
            "datetime.datetime.now",
            "datetime.datetime.utcnow",
            "datetime.datetime.today",
            "datetime.date.today",
            "time.time",
            "time.time_ns",
            "time.monotonic",
            "time.perf_counter",
            "time.localtime",
            "time.gmtime",
        ],
        _CLOCK,
    ),
    **dict.fromkeys(["uuid.uuid1", "uuid.uuid4", "os.urandom"], _RANDOM),
}
_DICE = ("random.", "secrets.", "numpy.random.")
_FUNCTIONS = ("pyspark.sql.functions.", "pyspark.sql.functions.builtin.", "pyspark.sql.connect.functions.")
_FOLDS = {"tidemill.folds.Fold", "tidemill.folds.definition.Fold"}
_TAKE_SQL = {"expr", "selectExpr", "sql", "where", "filter"}
"""Methods whose text arguments are SQL."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """One place where the code cannot be repeated. ``line`` is 0 for SQL that stands in the pipeline file."""

    file: str
    line: int
    call: str
    why: str

    @property
    def where(self) -> str:
        """The place, as editors and terminals link it."""
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def next_step(self) -> str:
        """What to write instead."""
        return _NEXT[self.why]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "file": self.file,
            "line": self.line,
            "call": self.call,
            "why": self.why,
            "next_step": self.next_step,
        }


def suspects(pipeline: Pipeline, root: str) -> tuple[Suspect, ...]:
    """Every suspect place in a pipeline's steps, by file and line; in its suites it is refused as they are read.

    Modules outside ``root`` are installed packages and are not looked into. A module that is not there is the
    fingerprint's to complain of.
    """
    found: set[Suspect] = set()
    reached = _Reached(Path(root))
    for number, step in enumerate(pipeline.transform, start=1):
        if step.sql is not None:
            place = f"{pipeline.name}, step {number} (sql)"
            found.update(Suspect(place, 0, call, why) for call, why in in_sql(step.sql))
        elif named := step.function or step.decide:
            module, _, name = named.partition(":")
            path = find_module(module, root)
            if path is not None and path.resolve().is_relative_to(Path(root).resolve()):
                found.update(reached.suspects(path, name))
    return tuple(sorted(found, key=lambda each: (each.file, each.line, each.call)))


def in_sql(query: str) -> Iterator[tuple[str, str]]:
    """The suspect calls in SQL text, each with the reason.

    >>> list(in_sql("SELECT rand() AS r, 'now()' AS text, first(a) OVER (ORDER BY b) FROM events"))
    [('rand()', 'gives other values each time it runs')]
    """
    for quoted in _TEXT.finditer(query):
        kind = _TYPED.search(query, 0, quoted.start())
        if kind and quoted[0][1:-1].strip().lower() in _MOMENTS:
            yield f"{kind[1].lower()} {quoted[0]}", _CLOCK
    text = _TEXT.sub(" ", query)
    for match in _NAME.finditer(text):
        name, called = match[1].lower(), bool(match[2])
        if name in _SPARK and (called or name in _WITHOUT_PARENTHESES):
            yield f"{name}()", _SPARK[name]
        elif name == "unix_timestamp" and called and _NO_ARGUMENT.match(text, match.end()):
            yield "unix_timestamp()", _CLOCK
        elif name in _PICKS and called and not _windowed(text, match.end()):
            yield f"{name}()", _ORDER


_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL)
_NAME = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\b(\s*\()?")
_WITHOUT_PARENTHESES = {"current_timestamp", "current_date", "current_time", "localtimestamp"}
_NO_ARGUMENT = re.compile(r"\s*\)")
_TYPED = re.compile(r"\b(date|timestamp(?:_[ln]tz)?)\s*\Z", re.IGNORECASE)
_MOMENTS = {"now", "today", "tomorrow", "yesterday"}
_OVER = re.compile(r"\s*(?:(?:ignore|respect)\s+nulls\s*)?over\b", re.IGNORECASE)


def _windowed(text: str, position: int) -> bool:
    """Whether the call whose arguments begin at ``position`` is taken over a window."""
    depth = 1
    while depth and position < len(text):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        position += 1
    return _OVER.match(text, position) is not None


class _Reached:
    """Walks what a function reaches by name; each definition once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._modules: dict[Path, _Module] = {}

    def suspects(self, path: Path, name: str) -> Iterator[Suspect]:
        waiting, seen = [(path, name)], set()
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            module = self._module(place[0])
            node = module.definitions.get(place[1])
            if node is None:
                continue
            shown = str(place[0].resolve().relative_to(self._root.resolve()))
            yield from (Suspect(shown, line, call, why) for line, call, why in module.inspect(node))
            waiting += self._used(place[0], module, node)

    def _module(self, path: Path) -> _Module:
        if path not in self._modules:
            package = path.resolve().relative_to(self._root.resolve()).parent.parts
            self._modules[path] = _Module(ast.parse(path.read_text(encoding="utf-8")), package)
        return self._modules[path]

    def _used(self, path: Path, module: _Module, node: ast.AST) -> Iterator[tuple[Path, str]]:
        for inner in ast.walk(node):
            if not isinstance(inner, (ast.Name, ast.Attribute)):
                continue
            if isinstance(inner, ast.Name) and inner.id in module.definitions:
                yield path, inner.id
            owner, _, name = (module.origin(inner) or "").rpartition(".")
            local = self._root.joinpath(*owner.split(".")).with_suffix(".py") if owner else None
            if local is not None and local.is_file():
                yield local, name


class _Module:
    """One source file: its definitions, and what its names stand for."""

    def __init__(self, tree: ast.Module, package: tuple[str, ...]) -> None:
        self.definitions: dict[str, ast.stmt] = {}
        self._names: dict[str, str] = {}
        self._stars: list[str] = []
        for node in tree.body:
            self._define(node)
        for inner in ast.walk(tree):
            if isinstance(inner, ast.Import):
                for alias in inner.names:
                    first = alias.name.partition(".")[0]
                    self._names[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(inner, ast.ImportFrom):
                self._import_from(inner, package)

    def _define(self, node: ast.stmt) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self.definitions[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            self.definitions.update(dict.fromkeys(names, node))

    def _import_from(self, node: ast.ImportFrom, package: tuple[str, ...]) -> None:
        base = node.module or ""
        if node.level:
            above = package[: len(package) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        for alias in node.names:
            if alias.name == "*":
                self._stars.append(base)
            else:
                self._names[alias.asname or alias.name] = f"{base}.{alias.name}" if base else alias.name

    def origin(self, node: ast.expr) -> str | None:
        """The full name that an expression stands for: ``F.rand`` is ``pyspark.sql.functions.rand``."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        first = self._names.get(node.id)
        if first is None:
            if parts or node.id in self.definitions or not self._stars:
                return None
            first = f"{self._stars[-1]}.{node.id}"
        return ".".join([first, *reversed(parts)])

    def inspect(self, node: ast.AST) -> Iterator[tuple[int, str, str]]:
        """Line, call and reason of each suspect place in a definition."""
        windowed = {
            id(inner.value.func)
            for inner in ast.walk(node)
            if isinstance(inner, ast.Attribute) and inner.attr == "over" and isinstance(inner.value, ast.Call)
        }
        if isinstance(node, ast.ClassDef) and self._is_fold(node):
            yield from self._letters(node)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call):
                yield from self._texts(inner)
            if not isinstance(inner, (ast.Name, ast.Attribute)):
                continue
            why = _reason(self.origin(inner) or "", windowed=id(inner) in windowed)
            if why:
                yield inner.lineno, ast.unparse(inner), why

    def _is_fold(self, node: ast.ClassDef) -> bool:
        """Whether a class is an ordered fold, as far as this file tells."""
        for base in node.bases:
            named = base.value if isinstance(base, ast.Subscript) else base
            if self.origin(named) in _FOLDS:
                return True
            above = self.definitions.get(named.id) if isinstance(named, ast.Name) else None
            if isinstance(above, ast.ClassDef) and above is not node and self._is_fold(above):
                return True
        return False

    @staticmethod
    def _letters(node: ast.ClassDef) -> Iterator[tuple[int, str, str]]:
        for inner in node.body:
            if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Constant):
                names = {each.id for each in inner.targets if isinstance(each, ast.Name)}
                if names & {"key", "order_by"} and isinstance(inner.value.value, str):
                    yield inner.lineno, ast.unparse(inner), _LETTERS

    def _texts(self, call: ast.Call) -> Iterator[tuple[int, str, str]]:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name not in _TAKE_SQL:
            return
        for argument in call.args:
            for inner in ast.walk(argument):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield from ((inner.lineno, f"{found} in SQL", why) for found, why in in_sql(inner.value))


def _reason(origin: str, *, windowed: bool) -> str | None:
    owner, _, name = origin.rpartition(".")
    if f"{owner}." in _FUNCTIONS:
        return _SPARK.get(name) or (_ORDER if name in _PICKS and not windowed else None)
    if origin.startswith(_DICE):
        return _RANDOM
    return _PYTHON.get(origin)
