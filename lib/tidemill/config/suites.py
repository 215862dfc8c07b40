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
from tidemill.config.suite_parameters import check_keys, check_kwargs, check_repeatable
from tidemill.config.text import Document, Place
from tidemill.errors import ConfigError
from tidemill.model.expectations import IN_GX, KINDS, NOT_ON_SPARK, UNIQUE, Kind, Runs, share
from tidemill.model.quality import Action, Expectation, Suite, Within

FOLDER = "conf/suites"
_SUFFIXES = (".json", ".yml", ".yaml")
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
_OURS = ("action", "within")
_SUITE_KEYS = {"name", "expectations", "meta", "id", "notes", "suite_parameters"}
_SEVERITIES = get_args(Expectation.model_fields["severity"].annotation)


def suite_path(root: Path, name: str) -> Path:
    """Where the suite ``name`` of a project is. Raises :class:`ConfigError` naming those that there are."""
    folder = root / FOLDER
    if name.endswith(_SUFFIXES) or name.startswith((f"{FOLDER}/", "/")):
        raise _a_file(folder, name)
    found = _files(folder, name)
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


def _a_file(folder: Path, given: str) -> ConfigError:
    within = Path(given.removeprefix(f"{FOLDER}/"))
    name = within.stem if within.is_absolute() else str(within).removesuffix(within.suffix)
    missing = "" if _files(folder, name) else f", and {FOLDER}/{name}.yml, which is not there"
    return ConfigError(
        f"{given!r} is a file, and a suite is given by its name", next_step=f"write {name}{missing}"
    )


def _files(folder: Path, name: str) -> list[Path]:
    return [path for path in sorted(folder.glob(f"{name}.*")) if path.suffix in _SUFFIXES]


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
    check_keys(document, (), body, _SUITE_KEYS)
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


def _expectation(document: Document, place: Place, body: Any) -> Expectation:
    if not isinstance(body, dict):
        raise document.error(
            place, "an expectation is a mapping", "write type:, kwargs:, meta: {action: ...}"
        )
    if "expectation_type" in body:
        raise document.error(
            (*place, "expectation_type"), "this suite was written for GX 0.x", "in GX 1.x the key is type"
        )
    check_keys(document, place, body, _KEYS)
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
        check_kwargs(document, (*place, "kwargs"), KINDS[name], kwargs)
    else:
        _check_in_gx(document, place, name, kwargs)
    _check_meta(document, (*place, "meta"), meta)
    within = _within(document, place, name, kwargs, meta)
    action = _action(
        document, (*place, "meta", "action"), KINDS[name].runs if name in KINDS else Runs.GX, meta
    )
    if action in {Action.DROP, Action.QUARANTINE}:
        check_repeatable(document, (*place, "kwargs"), kwargs)
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


def _check_meta(document: Document, place: Place, meta: Mapping[str, Any]) -> None:
    """``meta`` holds whatever its owner likes; a key of tidemill's that is misspelt would do nothing, in silence."""
    for key in meta:
        if key in _OURS:
            continue
        text = str(key).strip().lower()
        near = difflib.get_close_matches(text, _OURS, n=1, cutoff=0.8)
        # A word of its own is longer, or shorter: a reaction is no action.
        if near and abs(len(near[0]) - len(text)) <= 1:
            raise document.error((*place, key), f"unknown key {key!r}", f"did you mean {near[0]!r}?")


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
    check_kwargs(
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
