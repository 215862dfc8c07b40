"""YAML that remembers its lines.

``load`` gives plain values and, for each place in them, the line it stands on, so that an error about
``source.files.format`` can name the file and the line that a person has to change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tidemill.errors import ConfigError

Place = tuple[str | int, ...]
_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")


@dataclass(frozen=True, slots=True)
class Document:
    """A file's values, and the line of each place (1-based)."""

    path: Path
    value: Any
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of ``place``, or of the nearest place around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def load(path: Path) -> Document:
    """Read a YAML file safely: no tags, no duplicate keys, references left as they are.

    Raises :class:`ConfigError` with file and line.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(
            f"{path}:{line}: not valid YAML: {error.problem}", file=str(path), line=line
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", file=str(path)) from None
    lines: dict[Place, int] = {}
    return Document(path, _value(node, (), lines, path), lines)


def resolve(value: Any) -> Any:
    """``value`` with each ``${env:NAME}`` and ``${file:PATH}`` in its texts replaced.

    Raises :class:`ConfigError` when a reference leads nowhere; the message never holds a resolved value.
    """
    if isinstance(value, dict):
        return {key: resolve(each) for key, each in value.items()}
    if isinstance(value, list):
        return [resolve(each) for each in value]
    return _REFERENCE.sub(_look_up, value) if isinstance(value, str) else value


def _look_up(match: re.Match[str]) -> str:
    kind, name = match[1], match[2]
    try:
        return os.environ[name] if kind == "env" else Path(name).read_text(encoding="utf-8").strip()
    except KeyError:
        raise ConfigError(
            f"the environment variable {name} is not set", next_step=f"export {name}=..."
        ) from None
    except OSError as error:
        raise ConfigError(f"{name}, named by ${{file:...}}, cannot be read: {error.strerror}") from None


def _value(node: yaml.Node | None, place: Place, lines: dict[Place, int], path: Path) -> Any:
    if node is None:
        return None
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node)
            line = key_node.start_mark.line + 1
            if key in found:
                raise ConfigError(f"{path}:{line}: the key {key!r} stands twice", file=str(path), line=line)
            found[key] = _value(value_node, (*place, key), lines, path)
            lines[(*place, key)] = line
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, (*place, i), lines, path) for i, each in enumerate(node.value)]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        line = node.start_mark.line + 1
        raise ConfigError(f"line {line}: {error}", line=line) from None
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]
