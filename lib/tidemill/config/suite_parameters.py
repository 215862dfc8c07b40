"""The parameters of one expectation: known, complete, and such that something can be as expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import yaml

from tidemill.config.determinism import Suspect, in_sql
from tidemill.config.text import Document, Place
from tidemill.model.expectations import Check, Kind, bound
from tidemill.model.row_condition import parse, sql_in


def check_keys(document: Document, place: Place, body: Mapping[str, Any], known: set[str]) -> None:
    """Raise :class:`ConfigError` for a key of ``body`` that is not known."""
    for key in body:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise document.error((*place, key), f"unknown key {key!r}", hint)


def check_kwargs(document: Document, place: Place, kind: Kind, kwargs: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError`, with what to write instead, for parameters that an expectation cannot have."""
    domain: dict[str, Check] = {name: _DOMAIN[name] for name in kind.domain}
    known = {**domain, **kind.needs, **kind.takes}
    check_keys(document, place, kwargs, set(known))
    for name in (*domain, *kind.needs):
        if name not in kwargs:
            raise document.error(place, f"{name} is missing", f"write {name}: ...")
    for name, value in kwargs.items():
        if isinstance(value, dict) and "$PARAMETER" in value:
            raise document.error(
                (*place, name), "suite parameters are given to GX at run time", "write the value itself"
            )
        problem = known[name](value)
        if problem:
            raise document.error(
                (*place, name), f"{problem}, not {value!r}", correction(name, value, known[name])
            )
    _check_bounds(document, place, kind, kwargs)
    try:
        parse(kwargs.get("row_condition"), kwargs.get("condition_parser"))
    except ValueError as error:
        raise document.error(
            (*place, "row_condition"), str(error), "see: row conditions, in GX's guide"
        ) from None


def check_repeatable(document: Document, place: Place, kwargs: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` for a row condition that may say something else of a row when it is asked again."""
    condition = parse(kwargs.get("row_condition"), kwargs.get("condition_parser"))
    for text in sql_in(condition):
        for call, why in in_sql(text):
            at = (*place, "row_condition")
            file, line = document.where(at)
            raise document.error(
                at,
                f"{call} {why}, and this expectation leaves rows out",
                Suspect(str(file), line, call, why).next_step,
            )


_DOMAIN: Mapping[str, Check] = {
    **dict.fromkeys(
        ("column", "column_A", "column_B"),
        lambda value: None if isinstance(value, str) and value else "the name of a column is wanted",
    ),
    "column_list": lambda value: (
        None
        if isinstance(value, list) and len(value) > 1 and all(isinstance(each, str) for each in value)
        else "a list of two columns or more is wanted"
    ),
}


def correction(name: str, value: Any, check: Check) -> str:
    """What to write instead of a parameter's value: the nearest thing to it that ``check`` lets pass, or else an example.

    >>> from tidemill.model.expectations import share
    >>> correction("mostly", 99, share), correction("mostly", "0.9", share), correction("mostly", None, share)
    ('write mostly: 0.99', 'write mostly: 0.9', 'for example mostly: 0.9')
    """
    if isinstance(value, bool) and check("a text") is None:
        return "YAML reads NO and OFF as false, YES and ON as true: write a text in quotes"
    meant = next((each for each in _meant(value) if check(each) is None), None)
    if meant is not None:
        return f"write {_yaml(name, meant)}"
    examples = (_DAY, *_EXAMPLES) if isinstance(value, str) and value else _EXAMPLES
    return f"for example {_yaml(name, next(each for each in examples if check(each) is None))}"


def _meant(value: Any) -> Iterator[Any]:
    """What somebody may have meant who wrote ``value``, the likeliest first."""
    number = _number(value)
    if number is not None:
        # A share in per cent; decimals as they are written, not as a double has them.
        yield from (number, float(f"{number / 100:g}"), round(number))
    if isinstance(value, str):
        yield from difflib.get_close_matches(value.strip().lower(), _WORDS, n=3)
        yield from ([True] if value.lower() in {"true", "yes", "on"} else [])
        yield from ([False] if value.lower() in {"false", "no", "off"} else [])
        yield _directives(value)
    if isinstance(value, (int, float, date)) and not isinstance(value, bool):
        yield str(value)
    if isinstance(value, list) and value:
        yield [str(each) for each in value]
        yield [value]
    elif isinstance(value, (str, int, float, date)) and value != "":
        yield from ([value], [str(value)])


def _number(value: Any) -> float | int | None:
    if isinstance(value, str):
        text = value.strip().removesuffix("%")
        try:
            value = int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else float(text)
        except ValueError:
            return None
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _GREATEST
    return value if sound else None


def _directives(text: str) -> str:
    """A format of Java's, or of people's, as one of Python's."""
    text = re.sub("'([^']*)'", r"\1", text)
    for java, python in (
        ("yyyy", "%Y"),
        ("MM", "%m"),
        ("dd", "%d"),
        ("HH", "%H"),
        ("mm", "%M"),
        ("ss", "%S"),
    ):
        text = re.sub(java, python, text, flags=re.IGNORECASE if java in {"yyyy", "dd"} else 0)
    return text


_WORDS = (
    *("any", "all", "neither", "never", "spark", "great_expectations", "both_values_are_missing"),
    *("either_value_is_missing", "all_values_are_missing", "any_value_is_missing"),
)
_DAY, _GREATEST = "2024-01-31", 2**63
_EXAMPLES: tuple[Any, ...] = (0.9, 5, True, "a", *_WORDS, "%Y-%m-%d", ["a", "b"], [["a", "b"]])


def _yaml(name: str, value: Any) -> str:
    written = yaml.safe_dump({name: value}, default_flow_style=True, allow_unicode=True, width=10**6)
    return written.strip()[1:-1]


def _check_bounds(document: Document, place: Place, kind: Kind, kwargs: Mapping[str, Any]) -> None:
    if "min_value" not in kind.takes:
        return
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is None and high is None:
        raise document.error(place, "neither min_value nor max_value is given", "write one of them, or both")
    if low is None or high is None:
        return
    strict = " and ".join(name for name in ("strict_min", "strict_max") if kwargs.get(name))
    try:
        a: Any = bound(low)
        b: Any = bound(high)
        exchanged, empty = a > b, a == b and strict
    except TypeError:
        raise document.error(
            (*place, "min_value"),
            f"{low!r} and {high!r} cannot be compared",
            "write both as one kind of value",
        ) from None
    if exchanged or empty:
        with_them = f" with {strict}" if empty else ""
        raise document.error(
            (*place, "min_value"),
            f"no value lies between {low!r} and {high!r}{with_them}",
            f"leave {strict} out, or widen the bounds" if empty else "exchange the bounds",
        )
