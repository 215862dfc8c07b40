"""Suites on disk: ``conf/suites/*.json|yml``, Great Expectations 1.x suites as GX itself writes them.

What tidemill adds stands in each expectation's ``meta``: its ``action``. Nothing of GX is loaded here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from tidemill.config import text
from tidemill.config.text import Document, Place
from tidemill.errors import ConfigError
from tidemill.model.expectations import IN_GX, KINDS, NOT_ON_SPARK, UNIQUE, Check, Kind, Runs, bound, share
from tidemill.model.quality import Action, Expectation, Suite, Within
from tidemill.model.row_condition import parse

FOLDER = "conf/suites"
_KEYS = {
    "type",
    "kwargs",
    "meta",
    "id",
    "severity",
    "notes",
    "description",
    "rendered_content",
    "expectation_context",
}
_SUITE_KEYS = {"name", "expectations", "meta", "id", "notes", "suite_parameters"}
_SEVERITIES = get_args(Expectation.model_fields["severity"].annotation)


def suite_path(root: Path, name: str) -> Path:
    """Where the suite ``name`` of a project is. Raises :class:`ConfigError` naming those that there are."""
    folder = root / FOLDER
    found = [path for path in sorted(folder.glob(f"{name}.*")) if path.suffix in {".json", ".yml", ".yaml"}]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"the suite {name!r} is there twice: {', '.join(path.name for path in found)}",
            next_step="keep one of them",
        )
    known = sorted({path.stem for path in folder.glob("*.*")}) if folder.is_dir() else []
    near = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"there is no suite {name!r} in {folder}",
        next_step=f"did you mean {near[0]!r}?"
        if near
        else f"write {folder / name}.yml; there are {', '.join(known) or 'none'}",
    )


def load_suite(path: Path) -> Suite:
    """Read a suite and check it as far as that needs neither GX nor Spark.

    Raises :class:`ConfigError` with file, line and field.
    """
    return suite_of(_document(path))


def suite_of(document: Document) -> Suite:
    """The suite that a document holds; as :func:`load_suite`."""
    body = document.value
    if not isinstance(body, dict):
        raise document.error((), "a suite is a mapping", "begin with name: and expectations:")
    _check_version(document, body)
    _check_keys(document, (), body, _SUITE_KEYS)
    listed = body.get("expectations")
    if not isinstance(listed, list):
        raise document.error(
            ("expectations",), "a suite has a list of expectations", "write expectations: [...]"
        )
    found = [_expectation(document, ("expectations", i), each) for i, each in enumerate(listed)]
    return Suite(name=str(body.get("name", document.path.stem)), expectations=_named(document, found))


def _document(path: Path) -> Document:
    if path.suffix != ".json":
        return text.load(path)
    try:
        raw = path.read_text(encoding="utf-8")
        value = json.loads(raw)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}:{error.lineno}: not valid JSON: {error.msg}",
            next_step="write it with GX: json.dumps(suite.to_json_dict())",
            file=str(path),
            line=error.lineno,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {error}", next_step="save it as UTF-8", file=str(path)
        ) from None
    return replace(text.lined(path, raw.replace("\t", " ")), value=value)


def _check_version(document: Document, body: Mapping[str, Any]) -> None:
    old = "write it anew with GX 1.x: ExpectationSuite(...).to_json_dict()"
    if "expectation_suite_name" in body:
        raise document.error(("expectation_suite_name",), "this suite was written for GX 0.x", old)
    meta = body.get("meta") or {}
    version = str(meta.get("great_expectations_version", "1")) if isinstance(meta, dict) else "1"
    if not re.match(r"1(\.|$)", version):
        raise document.error(
            ("meta", "great_expectations_version"), f"this suite was written for GX {version}", old
        )


def _check_keys(document: Document, place: Place, body: Mapping[str, Any], known: set[str]) -> None:
    for key in body:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise document.error((*place, key), f"unknown key {key!r}", hint)


def _expectation(document: Document, place: Place, body: Any) -> Expectation:
    if not isinstance(body, dict):
        raise document.error(
            place, "an expectation is a mapping", "write type:, kwargs:, meta: {action: ...}"
        )
    if "expectation_type" in body:
        raise document.error(
            (*place, "expectation_type"), "this suite was written for GX 0.x", "in GX 1.x the key is type"
        )
    _check_keys(document, place, body, _KEYS)
    name, kwargs, meta = body.get("type"), body.get("kwargs") or {}, body.get("meta") or {}
    if not isinstance(name, str) or not (name in KINDS or name in IN_GX):
        near = difflib.get_close_matches(str(name), [*KINDS, *IN_GX], n=1)
        raise document.error(
            (*place, "type"),
            f"there is no expectation {name!r}",
            f"did you mean {near[0]!r}?" if near else "see the gallery of Great Expectations",
        )
    for key, value in (("kwargs", kwargs), ("meta", meta)):
        if not isinstance(value, dict):
            raise document.error((*place, key), "not a mapping", f"write {key}: {{...}}")
    if name in KINDS:
        _check_kwargs(document, (*place, "kwargs"), KINDS[name], kwargs)
    else:
        _check_in_gx(document, place, name, kwargs)
    within = _within(document, place, name, kwargs, meta)
    action = _action(
        document, (*place, "meta", "action"), KINDS[name].runs if name in KINDS else Runs.GX, meta
    )
    severity = body.get("severity", "critical")
    if severity not in _SEVERITIES:
        raise document.error(
            (*place, "severity"), f"unknown severity {severity!r}", f"one of {', '.join(_SEVERITIES)}"
        )
    file, line = document.where(place)
    return Expectation(
        id=str(body.get("id") or ""),
        type=name,
        kwargs=kwargs,
        action=action,
        severity=severity,
        within=within,
        where=f"{file}:{line}",
    )


def _action(document: Document, place: Place, runs: Runs, meta: Mapping[str, Any]) -> Action:
    value = meta.get("action", Action.WARN)
    if value not in list(Action):
        near = difflib.get_close_matches(str(value), [each.value for each in Action], n=1)
        raise document.error(
            place,
            f"unknown action {value!r}",
            f"did you mean {near[0]!r}?" if near else f"one of {', '.join(Action)}",
        )
    if value in {Action.DROP, Action.QUARANTINE} and runs is not Runs.ROW:
        raise document.error(
            place,
            f"{value} acts on rows, and this expectation looks at all of them together",
            "use warn or fail",
        )
    return Action(value)


def _within(
    document: Document, place: Place, name: str, kwargs: Mapping[str, Any], meta: Mapping[str, Any]
) -> Within | None:
    value = meta.get("within")
    if value is None:
        return None
    where = (*place, "meta", "within")
    if name not in UNIQUE:
        raise document.error(where, f"{name} has no within", f"those that have: {', '.join(UNIQUE)}")
    if value not in list(Within):
        raise document.error(where, f"within is no {value!r}", f"one of {', '.join(Within)}")
    _check_kwargs(
        document,
        (*place, "kwargs"),
        Kind(Runs.FILES, (UNIQUE[name],), {}, {"mostly": share}),
        kwargs,
    )
    return Within(value)


def _check_in_gx(document: Document, place: Place, name: str, kwargs: Mapping[str, Any]) -> None:
    if name in NOT_ON_SPARK:
        raise document.error(
            (*place, "type"),
            f"GX does not evaluate {name} on Spark",
            "leave it out, or write it in SQL: unexpected_rows_expectation",
        )
    query = kwargs.get("unexpected_rows_query")
    if isinstance(query, str) and "{batch}" not in query:
        raise document.error(
            (*place, "kwargs", "unexpected_rows_query"),
            "the query does not look at the rows that are judged",
            "write FROM {batch}",
        )


def not_of_upserts(suite: Suite) -> None:
    """Raise :class:`ConfigError` where the suite of a table that keeps one row a key asks whether keys repeat in a write."""
    for each in suite.that_run(Runs.FILES):
        raise _misplaced(
            each,
            "asks for unique values in what is written, and mode: upsert keeps one row a key",
            "leave within: out",
        )


def not_of_no_interval(suite: Suite, column: str) -> None:
    """Raise :class:`ConfigError` where the suite of a table would keep rows that have no interval."""
    for each in suite.expectations:
        if (
            each.action is Action.QUARANTINE
            and each.type == "expect_column_values_to_not_be_null"
            and column in each.columns
        ):
            raise _misplaced(
                each,
                f"would set rows aside that have no {column}, and so no interval that they could be released into",
                "drop them in the transform, or set them aside as they come in: quality: {inputs: ...}",
            )


def _misplaced(each: Expectation, why: str, next_step: str) -> ConfigError:
    file, _, line = each.where.rpartition(":")
    return ConfigError(
        f"{each.where}: {each.id} {why}", next_step=next_step, file=file, line=line, expectation=each.id
    )


def only_in_the_table(suite: Suite, name: str) -> None:
    """Raise :class:`ConfigError` where the suite of the input ``name`` asks what is answered of written rows alone."""
    for each in (*suite.that_run(Runs.FILES), *suite.that_run(Runs.GX)):
        raise _misplaced(
            each,
            f"is answered of rows that are written; those of the input {name} are judged as they pass",
            "move it to the suite of the table: quality: {suite: ...}",
        )


def _check_kwargs(document: Document, place: Place, kind: Kind, kwargs: Mapping[str, Any]) -> None:
    domain: dict[str, Check] = {name: _DOMAIN[name] for name in kind.domain}
    known = {**domain, **kind.needs, **kind.takes}
    _check_keys(document, place, kwargs, set(known))
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
                (*place, name), f"{problem}, not {value!r}", "see the gallery of Great Expectations"
            )
    _check_bounds(document, place, kind, kwargs)
    try:
        parse(kwargs.get("row_condition"), kwargs.get("condition_parser"))
    except ValueError as error:
        raise document.error(
            (*place, "row_condition"), str(error), "see: row conditions, in GX's guide"
        ) from None


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


def _check_bounds(document: Document, place: Place, kind: Kind, kwargs: Mapping[str, Any]) -> None:
    if "min_value" not in kind.takes:
        return
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is None and high is None:
        raise document.error(place, "neither min_value nor max_value is given", "write one of them, or both")
    if low is None or high is None:
        return
    try:
        a: Any = bound(low)
        b: Any = bound(high)
        empty = a > b or (a == b and (kwargs.get("strict_min") or kwargs.get("strict_max")))
    except TypeError:
        raise document.error(
            (*place, "min_value"),
            f"{low!r} and {high!r} cannot be compared",
            "write both as one kind of value",
        ) from None
    if empty:
        raise document.error(
            (*place, "min_value"), f"no value lies between {low!r} and {high!r}", "exchange the bounds"
        )


def _named(document: Document, found: list[Expectation]) -> tuple[Expectation, ...]:
    given = Counter(each.id for each in found if each.id)
    for i, each in enumerate(found):
        if each.id and given[each.id] > 1:
            raise document.error(
                ("expectations", i, "id"),
                f"the id {each.id!r} stands twice",
                "leave ids out, or tell them apart",
            )
    named, seen = [], Counter[str]()
    for each in found:
        how = f" within a{'n' if each.within is Within.INTERVAL else ''} {each.within}" if each.within else ""
        name = each.id or f"{each.type}({', '.join(each.columns)}){how}"
        seen[name] += 1
        named.append(each.model_copy(update={"id": name if seen[name] == 1 else f"{name} #{seen[name]}"}))
    return tuple(named)
