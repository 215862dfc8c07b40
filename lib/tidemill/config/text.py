"""YAML that remembers its lines.

``load`` gives plain values and, for each place in them, the line it stands on, so that an error about
``source.files.format`` can name the file and the line that a person has to change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tidemill.errors import ConfigError

Place = tuple[str | int, ...]
_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")


@dataclass(frozen=True, slots=True)
class Document:
    """A file's values, and the line of each place (1-based).

    ``over``: the documents that were merged on top, each with the place in it that stands for this one's root.
    """

    path: Path
    value: Any
    lines: Mapping[Place, int]
    over: tuple[tuple[Document, Place], ...] = ()

    def where(self, place: Place) -> tuple[Path, int]:
        """The file and line of ``place``, or of the nearest place around it."""
        layers: list[tuple[Document, Place]] = [(self, ()), *self.over]
        depths = [_depth(document.lines, (*root, *place)) - len(root) for document, root in layers]
        # The topmost document that says anything about the place is the one to change.
        best = max(range(len(layers)), key=lambda i: (depths[i], i) if depths[i] > 0 else (0, -i))
        document, root = layers[best]
        return document.path, document.lines.get((*root, *place[: depths[best]]), 1)

    def error(self, place: Place, message: str, next_step: str) -> ConfigError:
        """An error that names file, line and field."""
        path, line = self.where(place)
        field = ".".join(map(str, place))
        return ConfigError(
            f"{path}:{line}: {field + ': ' if field else ''}{message}",
            next_step=next_step,
            file=str(path),
            line=line,
            field=field,
        )

    def merged(self, over: Document, root: Place) -> Document:
        """This document with what ``over`` holds at ``root`` on top; mappings are merged key by key."""
        value = over.value
        for part in root:
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return self
        if not isinstance(value, dict):
            raise over.error(root, "what is laid over a pipeline is a mapping", "write the keys that differ")
        return replace(self, value=_merge(self.value, value), over=(*self.over, (over, root)))


def _depth(lines: Mapping[Place, int], place: Place) -> int:
    return next((n for n in range(len(place), -1, -1) if place[:n] in lines), -1)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def load(path: Path) -> Document:
    """Read a YAML file safely: no tags, no duplicate keys, references left as they are.

    Raises :class:`ConfigError` with file and line.
    """
    try:
        return lined(path, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise _at(path, 1, f"not text: {error}", "save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", next_step="make it readable", file=str(path)
        ) from None


def lined(path: Path, text: str) -> Document:
    """The document that ``text``, the content of ``path``, is; as :func:`load`."""
    lines: dict[Place, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _at(path, line, f"not valid YAML: {error.problem}", _SYNTAX) from None
    except yaml.YAMLError as error:
        raise _at(path, 1, f"not text: {str(error).splitlines()[0]}", "save the file as UTF-8") from None
    return Document(path, _value(node, (), lines, path), lines)


_SYNTAX = "indent with spaces, and quote texts that hold ': ' or begin with one of * & ! % @ `"


def _at(path: Path, line: int, message: str, next_step: str, field: str = "") -> ConfigError:
    return ConfigError(
        f"{path}:{line}: {message}", next_step=next_step, file=str(path), line=line, field=field
    )


def resolved(document: Document) -> Any:
    """The document's value with each ``${env:NAME}`` and ``${file:PATH}`` in its texts replaced.

    Raises :class:`ConfigError` when a reference leads nowhere; the message never holds a resolved value.
    """
    return _resolved(document, document.value, ())


def _resolved(document: Document, value: Any, place: Place) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(document, each, (*place, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(document, each, (*place, i)) for i, each in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return _REFERENCE.sub(_look_up, value)
    except ConfigError as error:
        raise document.error(place, error.message, error.next_step) from None


def _look_up(match: re.Match[str]) -> str:
    kind, name = match[1], match[2]
    try:
        return os.environ[name] if kind == "env" else Path(name).read_text(encoding="utf-8").strip()
    except KeyError:
        raise ConfigError(
            f"the environment variable {name} is not set", next_step=f"export {name}=..."
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"{name}, named by ${{file:...}}, cannot be read: {why}",
            next_step=f"write {name}, or correct its name",
        ) from None


def _value(node: yaml.Node | None, place: Place, lines: dict[Place, int], path: Path) -> Any:
    if node is None:
        return None
    if len(place) > _DEEPEST:
        raise _at(path, node.start_mark.line + 1, "nested too deeply, or an alias inside itself", _SYNTAX)
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _scalar(key_node, path)
            field = ".".join(map(str, (*place, key)))
            if not isinstance(key, str):
                raise _at(path, line, f"the key {key!r} is not a text", f"quote it: '{key}'", field)
            if key in found:
                raise _at(path, line, f"the key {key!r} stands twice", "keep one of the two", field)
            found[key] = _value(value_node, (*place, key), lines, path)
            lines[*place, key] = line
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, (*place, i), lines, path) for i, each in enumerate(node.value)]
    return _scalar(node, path)


_DEEPEST = 50


def _scalar(node: yaml.Node, path: Path) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
        raise _at(path, node.start_mark.line + 1, f"not a plain value: {problem}", _SYNTAX) from None
    finally:
        loader.dispose()
