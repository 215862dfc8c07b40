"""The fingerprint: a hash of everything in a pipeline that decides what its rows are.

Two pipelines with one fingerprint give the same rows from the same input. It covers the meaningful part of
the specification and the source of the transforms: each function, and what it reaches by name in its own
module and in other modules of the project, compared as syntax trees, so that comments, docstrings and
layout do not count. Of an event store's domain, what it takes from installed packages counts, too. Nothing is imported: ``status`` computes it in milliseconds. See :mod:`.source` for what
is reached, and :mod:`.objects` for functions given as objects, in notebooks.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tidemill.config.installed import described, packages
from tidemill.config.objects import reached
from tidemill.config.source import closure, definitions, find_module
from tidemill.errors import ConfigError
from tidemill.model import Input, Pipeline, Quality, Step

__all__ = ["find_module", "fingerprint", "normal_sql"]

_NOT_ROWS = {"trigger", "gate", "chunk", "spark", "description", "start"}
_ONLY_SPEED = (
    "spark.scheduler.",
    "spark.sql.adaptive.",
    "spark.sql.autoBroadcastJoinThreshold",
    "spark.sql.files.",
    "spark.sql.shuffle.",
    "spark.sql.streaming.stateStore.",
)
"""Settings that decide how fast rows come, and not what they are; any other (ANSI mode, the calendar) may."""

_THE_WAY_THERE = {
    "kafka": ("servers", "max_offsets_per_batch", "options", "registry", "archive"),
    "rabbitmq": (
        *("url", "exchange", "starting", "max_records_per_batch", "records_per_task"),
        *("read_timeout_seconds", "reconnect_attempts", "reconnect_seconds"),
    ),
}


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
    body = pipeline.model_dump(mode="json", exclude=_NOT_ROWS | {"transform", "quality"})
    for name, each in body["inputs"].items():
        for kind in ("files", "delta"):
            if each[kind]:
                # Where rows are kept, and in what portions they come, does not decide what they are.
                each[kind].pop("path")
                each[kind].pop("max_files_per_batch")
        _without_the_way_there(pipeline.inputs[name], each)
        if each["personal"] is None:
            each.pop("personal")
        else:
            each["personal"].pop("keys")
    table = body.pop("sink")["delta"]
    body["sink"] = {name: table[name] for name in ("mode", "key", "order_by")}
    settings = {key: text for key, text in pipeline.spark.items() if not key.startswith(_ONLY_SPEED)}
    if settings:
        body["spark"] = settings
    rules = _rules(pipeline.quality)
    if rules:
        body["quality"] = rules
    return body


def _without_the_way_there(source: Input, body: dict[str, Any]) -> None:
    """What of a broker's records decides rows: what they are and which, not how they are reached."""
    for kind, parts in _THE_WAY_THERE.items():
        if body[kind] is None:
            body.pop(kind)
            continue
        for part in parts:
            body[kind].pop(part)
    if source.kafka is not None:
        if not source.kafka.partitions:
            body["kafka"].pop("partitions")
        body["kafka"]["isolation"] = source.kafka.isolation
        if source.kafka.archive is not None and source.kafka.archive.within is not None:
            body["kafka"]["within"] = source.kafka.archive.within.total_seconds()


def _rules(quality: Quality) -> dict[str, Any]:
    # What an expectation only says of rows does not change them.
    suites = {"table": quality.suite, **{f"input {name}": suite for name, suite in quality.inputs.items()}}
    found = {
        name: [
            each.model_dump(mode="json", exclude={"id", "severity"})
            for each in suite.expectations
            if each.changes_rows
        ]
        for name, suite in suites.items()
        if suite is not None
    }
    return {name: rules for name, rules in found.items() if rules}


def _step(step: Step, root: str) -> str:
    if step.sql is not None:
        return "sql " + normal_sql(step.sql)
    named = step.function or step.decide
    if named is not None:
        module, _, name = named.partition(":")
        path = find_module(module, root)
        if path is None:
            raise ConfigError(
                f"the transform {named!r} names a module that is not there",
                next_step=f"write {module.replace('.', '/')}.py under {root}, or correct the name",
                field="transform",
            )
        if name not in definitions(path):
            raise ConfigError(
                f"{module} has no {'function' if step.function else 'domain'} {name!r}",
                next_step=f"it has: {', '.join(sorted(n for n in definitions(path) if n[0] != '_')) or 'none'}",
                field="transform",
                file=str(path),
            )
        if not path.resolve().is_relative_to(Path(root).resolve()):
            what = [described(module.partition(".")[0], root)] if step.decide else []
            return " ".join([f"installed {named}", *what])
        seen: set[tuple[Path, str]] = set()
        text = "".join(closure(path, name, root, seen))
        # What a domain decides is in the packages that it is made of, too.
        others = packages({file for file, _ in seen}, root) if step.decide else []
        return " ".join([text, *(described(each, root) for each in others)])
    return reached(step.call, root)


_SQL = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<blank>(?:\s|--[^\n]*|/\*(?!\+).*?\*/)+)""",
    re.DOTALL,
)
_VERBATIM = re.compile(r"""\br['"]|/\*(?:(?!\*/).)*/\*""", re.DOTALL | re.IGNORECASE)


def normal_sql(query: str) -> str:
    r"""A query without its layout and comments; what stands in quotes stays as it is.

    Raw texts and comments in comments are not taken apart: then the query counts as it is written.

    >>> normal_sql("SELECT 'a  b',  -- two blanks\n  x")
    "SELECT 'a  b', x"
    """
    if _VERBATIM.search(query):
        return query.strip()
    return _SQL.sub(lambda match: match["text"] or " ", query).strip()
