"""Fields inside a text of JSON, sealed and opened where they stand; all else of the text stays as it is. Pure.

A field is named by the keys that lead to it; a list on the way is each of its elements. What stands in a marked place is
sealed whatever it is, a number or an object too, and comes back as that. Where something else than an object stands on the way, it
is sealed in place of the field, and a text that is no JSON is sealed as a whole: what is not as it was expected may hold anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tidemill.erasure.seal import MARK, NOBODY, Ciphers, Keys, ciphers_of, open_one, seal_one

TOMBSTONE = "[erased]"
"""What a field inside JSON opens as when its subject was erased: a text, so that models of events and upcasters still take it."""

Path = tuple[str, ...]
Change = Callable[[Any, Path], Any]


class _Odd(ValueError):
    """A text of JSON that would be written in another way than it stands there."""


class _Number:
    """A number as it was written: no digit of it is lost."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Sealed(str):
    """A text that was sealed just now, by another of the fields that it stood in the way of."""

    __slots__ = ()


def sealed_inside(
    texts: Sequence[str | None],
    subjects: Sequence[str | None],
    column: str,
    paths: Collection[Path],
    keys: Keys,
) -> list[str | None]:
    """Texts of JSON with these fields sealed; see :func:`tidemill.erasure.seal.sealed`.

    >>> keys = {"ada": bytes(range(64))}
    >>> (text,) = sealed_inside(['{"id": 7, "name": "Ada"}'], ["ada"], "data", [("name",)], keys)
    >>> "Ada" in text, opened_inside([text], [("name",)], keys)
    (False, ['{"id":7,"name":"Ada"}'])
    """
    ciphers = ciphers_of(keys)
    return [
        None if text is None else _sealed_text(text, subject or NOBODY, column, paths, ciphers)
        for text, subject in zip(texts, subjects, strict=True)
    ]


def opened_inside(texts: Sequence[str | None], paths: Collection[Path], keys: Keys) -> list[str | None]:
    """Texts of JSON with what is sealed at these places, or below them, as it was; :data:`TOMBSTONE` where it is of an erased subject.

    A text that was sealed as a whole opens as :func:`tidemill.erasure.seal.opened` has it, and raises what that raises.
    """
    ciphers = ciphers_of(keys)
    return [None if text is None else _opened_text(text, paths, ciphers) for text in texts]


def _sealed_text(text: str, subject: str, column: str, paths: Collection[Path], ciphers: Ciphers) -> str:
    def seal(value: Any, path: Path) -> Any:
        if value is None or isinstance(value, _Sealed):
            return value
        field = ".".join((column, *path))
        plain = isinstance(value, str) and _is_unicode(value)
        said = value if plain else _written(value)
        return _Sealed(seal_one(said, subject, field, ciphers, is_json=not plain))

    # What only looks like a sealed text would stop whoever opens what it stands in.
    changed = _changed(text, paths, seal, _each_sealed(lambda said: seal(said, ())))
    return seal_one(text, subject, column, ciphers) if changed is None else changed


def _opened_text(text: str, paths: Collection[Path], ciphers: Ciphers) -> str | None:
    if text.startswith(MARK):
        whole = open_one(text, ciphers)
        return None if whole is None else whole[0]
    if MARK not in text:
        return text

    def open_(text: str) -> Any:
        said = open_one(text, ciphers)
        if said is None:
            return TOMBSTONE
        return _read(said[0])[0] if said[1] else said[0]

    changed = _changed(text, paths, _each_sealed(open_))
    return text if changed is None else changed


def _each_sealed(do: Callable[[str], Any]) -> Change:
    """What is done to the sealed texts of a value, wherever they are in it."""

    def walk(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {key: walk(each, path) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each, path) for each in value]
        return do(value) if isinstance(value, str) and value.startswith(MARK) else value

    return walk


def _changed(text: str, paths: Collection[Path], change: Change, rest: Change | None = None) -> str | None:
    """A text of JSON, changed at these places, and where something else stands on the way to them; then as a whole, by ``rest``.

    None where it is no object of JSON, nor a list of them.
    """
    try:
        value, exact = _read(text)
        if not _all_objects(value):
            return None
        if any(_has(value, path) for path in paths):
            for path in paths:
                value = _at(value, path, path, change)
        elif exact and (rest is None or MARK not in text):
            return text  # as it was written
        return _written(value if rest is None else rest(value, ()))
    except (ValueError, RecursionError):
        return None


def _all_objects(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and all(map(_all_objects, value)))


def _has(value: Any, path: Path) -> bool:
    """Whether anything stands at a place, or on the way there, that is to be changed."""
    if path and isinstance(value, list):
        return any(_has(each, path) for each in value)
    if not path or not isinstance(value, dict):
        return value is not None
    return path[0] in value and _has(value[path[0]], path[1:])


def _at(value: Any, left: Path, path: Path, change: Change) -> Any:
    if left and isinstance(value, list):
        return [_at(each, left, path, change) for each in value]
    if not left or not isinstance(value, dict):
        return change(value, path)
    if left[0] in value:
        value[left[0]] = _at(value[left[0]], left[1:], path, change)
    return value


def _read(text: str) -> tuple[Any, bool]:
    """What a text of JSON says, and whether it says all that stands there: of a key that comes twice the last one counts."""
    try:
        return _PLAIN.decode(text), True
    except ValueError:
        pass  # odd, or no JSON
    exact = True

    def one(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal exact
        found = dict(pairs)
        exact = exact and len(found) == len(pairs)
        return found

    value = json.loads(text, parse_float=_Number, parse_int=_Number, object_pairs_hook=one)
    return value, exact


def _float(text: str) -> float:
    value = float(text)
    if repr(value) != text:
        raise _Odd
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Odd
    return found


_PLAIN = json.JSONDecoder(parse_float=_float, object_pairs_hook=_object)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _written(value: Any) -> str:
    try:
        text = _ENCODER.encode(value)
    except TypeError:  # a number as it was written
        return _spelt(value)
    return text if _is_unicode(text) else _spelt(value)


def _spelt(value: Any) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{_quoted(key)}:{_spelt(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_spelt, value)) + "]"
        case _Number():
            return value.text
        case str():
            return _quoted(value)
        case _:
            return json.dumps(value)


def _quoted(text: str) -> str:
    # Half a character, as JSON may have it, can only be written as it came.
    return json.dumps(text, ensure_ascii=not _is_unicode(text))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
