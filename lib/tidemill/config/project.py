"""A project on disk: ``conf/pipelines/*.yml``, overlays in ``conf/env/``, and the values made of them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tidemill.config import text
from tidemill.config.archives import check_archives
from tidemill.config.fingerprint import fingerprint
from tidemill.config.stores import load_stores, store_path
from tidemill.config.suites import (
    load_suite,
    not_of_no_interval,
    not_of_upserts,
    only_in_the_table,
    suite_of,
    suite_path,
)
from tidemill.config.text import Document, Place
from tidemill.errors import ConfigError
from tidemill.intervals import Grain
from tidemill.ledger import schemas
from tidemill.model import Input, KafkaSource, Pipeline, RecordSource, Store, Suite
from tidemill.model.source import is_factory


@dataclass(frozen=True, slots=True)
class Project:
    """The folder of a project, its pipelines by name, and how stores are reached, by bucket."""

    root: str
    pipelines: Mapping[str, Pipeline]
    stores: Mapping[str, Store] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Tell pipelines what comes before them."""
        object.__setattr__(self, "pipelines", _with_opened(self.pipelines))

    def pipeline(self, name: str) -> Pipeline:
        """One pipeline by name. Raises :class:`ConfigError` naming the ones there are."""
        if name in self.pipelines:
            return self.pipelines[name]
        near = difflib.get_close_matches(name, self.pipelines, n=1)
        known = ", ".join(sorted(self.pipelines)) or "none"
        raise ConfigError(
            f"there is no pipeline {name!r}",
            next_step=f"did you mean {near[0]!r}?" if near else f"pipelines here: {known}",
            pipeline=name,
        )

    def fingerprint(self, name: str) -> str:
        """The fingerprint of one pipeline with the code as it is on disk now."""
        return schemas.sealed(self.code(name), self.pipeline(name).table.state_path)

    def code(self, name: str) -> str:
        """The fingerprint of one pipeline's code alone, without what it has learnt of schemas since it began."""
        return fingerprint(self.pipeline(name), self.root)

    def writer_of(self, table: str) -> Pipeline | None:
        """The pipeline whose sink is ``table``, if one of this project's is."""
        return next((p for p in self.pipelines.values() if p.table.path == table), None)


def _with_opened(pipelines: Mapping[str, Pipeline]) -> dict[str, Pipeline]:
    """The pipelines, told where they read what another has opened."""
    found = dict(pipelines)
    tables, before = set[str](), -1
    while len(tables) != before:
        before = len(tables)
        for name, each in found.items():
            if any(read.delta is not None and read.delta.path in tables for read in each.inputs.values()):
                found[name] = each if each.holds_opened else each.reading_opened()
            if found[name].holds_opened:
                tables |= {each.table.path, each.quarantine_path}
    return found


def find_root(start: Path | None = None) -> Path:
    """The nearest folder from ``start`` upwards that holds ``conf/pipelines``.

    Raises :class:`ConfigError` when there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "conf" / "pipelines").is_dir():
            return folder
    raise ConfigError(
        f"no project here: neither {here} nor a folder above it holds conf/pipelines",
        next_step="go to a project, pass --project, or make one with: tidemill init DIR",
    )


def load_project(root: Path | None = None, *, env: str | None = None) -> Project:
    """Load every pipeline of a project, under the overlay ``conf/env/<env>.yml`` when one is named.

    ``env`` falls back to the variable ``TIDEMILL_ENV``. Raises :class:`ConfigError` with file and line, of every pipeline
    that is wrong.
    """
    folder = find_root(root) if root is None else root.resolve()
    overlay = _overlay(folder, env or os.environ.get("TIDEMILL_ENV"))
    pipelines: dict[str, Pipeline] = {}
    files = sorted((folder / "conf" / "pipelines").glob("*.y*ml"))
    if not files:
        raise ConfigError(
            f"{folder} holds no conf/pipelines/*.yml", next_step="make a project with: tidemill init DIR"
        )
    tables: dict[str, str] = {}
    documents: dict[str, Document] = {}
    for document, pipeline in _each(files, overlay, folder):
        if pipeline.name in pipelines:
            raise document.error(
                ("name",), f"a second pipeline is named {pipeline.name!r}", "give one of them another name"
            )
        beside = (
            pipeline.quarantine_path,
            pipeline.unsent_path,
            pipeline.rejections_path,
            pipeline.states_path,
        )
        for table in (pipeline.table.path.rstrip("/"), *beside):
            if table in tables:
                raise document.error(
                    ("sink", "delta", "path"),
                    f"{tables[table]!r} already writes {table}",
                    "give each pipeline a table of its own, and those that belong to it beside it",
                )
            tables[table] = pipeline.name
        pipelines[pipeline.name], documents[pipeline.name] = pipeline, document
    check_archives(pipelines, documents)
    for name in _laid_over(overlay):
        if name not in pipelines:
            near = difflib.get_close_matches(name, pipelines, n=1)
            known = ", ".join(sorted(pipelines))
            raise overlay.error(
                ("pipelines", name),
                f"there is no pipeline {name!r}",
                f"did you mean {near[0]!r}?" if near else f"pipelines here: {known}",
            )
    return Project(str(folder), pipelines, load_stores(folder))


def parse_pipeline(values: Mapping[str, Any], root: str | Path) -> Pipeline:
    """A pipeline from plain values, paths taken relative to ``root``; for notebooks and tests.

    Raises :class:`ConfigError`.
    """
    return _validate(Document(Path("<values>"), dict(values), {}), Path(root).resolve())


def _load(path: Path, overlay: Document) -> Document:
    document = text.load(path)
    if not isinstance(document.value, dict):
        raise document.error((), "a pipeline is a mapping", "begin with name:, source:, event_time:, ...")
    document = replace(document, value={"name": path.stem, **document.value})
    name = str(document.value["name"])
    return document.merged(overlay, ("all",)).merged(overlay, ("pipelines", name))


def _overlay(root: Path, env: str | None) -> Document:
    if not env:
        return Document(root, {}, {})
    path = root / "conf" / "env" / f"{env}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yml")))
        raise ConfigError(
            f"there is no environment {env!r}: {path} is not there",
            next_step=f"known: {known}" if known else "write it, or leave --env and TIDEMILL_ENV out",
            file=str(path),
        )
    document = text.load(path)
    if not isinstance(document.value or {}, dict):
        raise document.error((), "an overlay is a mapping", _OVERLAY)
    unknown = set(document.value or {}) - {"all", "pipelines"}
    if unknown:
        key = min(unknown)
        raise document.error((key,), f"unknown key {key!r}", _OVERLAY)
    _laid_over(document)
    return document


_OVERLAY = "an overlay has the keys all and pipelines"


def _each(files: Sequence[Path], overlay: Document, folder: Path) -> list[tuple[Document, Pipeline]]:
    found, wrong = [], list[ConfigError]()
    for path in files:
        try:
            document = _load(path, overlay)
            found.append((document, _validate(document, folder)))
        except ConfigError as error:
            # Pipelines may share a suite.
            if error.message not in {each.message for each in wrong}:
                wrong.append(error)
    if len(wrong) > 1:
        raise ConfigError(
            "\n".join(f"{each.message}: {each.next_step}" for each in wrong),
            next_step=f"correct these {len(wrong)}",
        )
    if wrong:
        raise wrong[0]
    return found


def _laid_over(overlay: Document) -> list[str]:
    pipelines = (overlay.value or {}).get("pipelines") or {}
    if not isinstance(pipelines, dict):
        raise overlay.error(("pipelines",), "not a mapping", "write pipelines: {NAME: {KEY: VALUE}}")
    return list(pipelines)


def _validate(document: Document, root: Path) -> Pipeline:
    try:
        pipeline = Pipeline.model_validate(
            _with_suites(_with_schemas(text.resolved(document), document, root), document, root)
        )
    except ValidationError as error:
        problems = error.errors(include_url=False)
        # A misspelt key also leaves its field missing; the misspelling is the news.
        unknown = [each for each in problems if each["type"] == "extra_forbidden"]
        raise _explained((unknown or problems)[0], document) from None
    for name, suite in pipeline.quality.inputs.items():
        only_in_the_table(suite, name)
    if pipeline.quality.suite is not None:
        if pipeline.grain is not Grain.ALL:
            not_of_no_interval(pipeline.quality.suite, pipeline.interval_column)
        if pipeline.table.mode == "upsert":
            not_of_upserts(pipeline.quality.suite)
    return _rooted(pipeline, root, document)


def _explained(error: ErrorDetails, document: Document) -> ConfigError:
    # The model calls it inputs; a person wrote source or sources.
    place: Place = tuple(error["loc"])
    if place[:1] == ("sources",) and isinstance(document.value, dict) and "source" in document.value:
        place = ("source", *place[2:])
    message, hint = error["msg"].removeprefix("Value error, "), ""
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _known_keys(), n=1)
        message = f"unknown key {place[-1]!r}"
        hint = f"did you mean {near[0]!r}?" if near else ""
    return document.error(place, message, hint or "see: tidemill schema")


def _known_keys() -> list[str]:
    schema = json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for part in parts for key in part.get("properties", {})} | {"source"})


def json_schema() -> dict[str, Any]:
    """JSON Schema of a pipeline file, for editors."""
    schema = Pipeline.model_json_schema(by_alias=True)
    properties = schema["properties"]
    properties["source"] = {"$ref": "#/$defs/Input", "description": "The one input; or use sources."}
    step = {"anyOf": [{"type": "string", "pattern": r"^[\w.]+:\w+$"}, {"$ref": "#/$defs/Step"}]}
    properties["transform"] = {"anyOf": [*step["anyOf"], {"type": "array", "items": step}]}
    suite = {
        "anyOf": [{"type": "string"}, {"type": "object"}],
        "description": "A suite in conf/suites, or one here.",
    }
    properties["quality"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"suite": suite, "inputs": {"type": "object", "additionalProperties": suite}},
    }
    grains = {"enum": [each.value for each in Grain]}
    properties["interval"] = {"anyOf": [grains, {"$ref": "#/$defs/IntervalSpec"}]}
    properties["start"] = {"type": "string", "description": "The first moment the table should cover."}
    schema["required"] = ["name", "event_time", "interval", "sink"]
    return schema


def _with_schemas(values: dict[str, Any], document: Document, root: Path) -> dict[str, Any]:
    # A schema may be a file; its text becomes part of the value, and so of the fingerprint.
    several = values.get("sources")
    places: dict[Place, Any] = {("source",): values.get("source")}
    places |= {("sources", name): each for name, each in several.items()} if isinstance(several, dict) else {}
    for place, each in places.items():
        for kind in ("files", "kafka", "rabbitmq"):
            source = each.get(kind) if isinstance(each, dict) else None
            schema = source.get("schema") if isinstance(source, dict) else None
            if (
                not isinstance(source, dict)
                or not isinstance(schema, str)
                or not schema.endswith((".json", ".avsc"))
            ):
                continue
            path = root / schema
            if not path.is_file():
                raise document.error(
                    (*place, kind, "schema"), f"the schema file {schema} is not there", f"write {path}"
                )
            source["schema"] = path.read_text(encoding="utf-8")
    return values


def _with_suites(values: dict[str, Any], document: Document, root: Path) -> dict[str, Any]:
    quality = values.get("quality")
    if not isinstance(quality, dict):
        return values
    resolved = dict(quality)
    if quality.get("suite") is not None:
        resolved["suite"] = _suite(quality["suite"], document, ("quality", "suite"), root)
    if isinstance(quality.get("inputs"), dict):
        resolved["inputs"] = {
            name: _suite(each, document, ("quality", "inputs", name), root)
            for name, each in quality["inputs"].items()
        }
    return {**values, "quality": resolved}


def _suite(value: Any, document: Document, place: Place, root: Path) -> Suite:
    if hasattr(value, "to_json_dict"):
        # A suite of GX's own making, in a notebook.
        value = value.to_json_dict()
    if isinstance(value, dict):
        inside = {at[len(place) :]: line for at, line in document.lines.items() if at[: len(place)] == place}
        return suite_of(replace(document, value=value, lines=inside, over=()))
    try:
        path = suite_path(root, str(value))
    except ConfigError as error:
        raise document.error(place, error.message, error.next_step) from None
    return load_suite(path)


def _rooted(pipeline: Pipeline, root: Path, document: Document) -> Pipeline:
    def rooted(path: str, *place: str) -> str:
        if path.startswith(("s3://", "s3a://")):
            try:
                return store_path(path)
            except ConfigError as error:
                raise document.error(place, error.message, error.next_step) from None
        return path if "://" in path else os.path.normpath(root / path)

    inputs = {}
    for name, declared in pipeline.inputs.items():
        each = _with_keys(declared, rooted, root)
        if isinstance(each.source, KafkaSource):
            inputs[name] = each.model_copy(update={"kafka": _with_registry(each.source, rooted)})
            continue
        if isinstance(each.source, RecordSource):
            inputs[name] = each
            continue
        kind = "files" if each.files else "delta"
        source = each.source.model_copy(
            update={"path": rooted(each.source.path, "sources", name, kind, "path")}
        )
        inputs[name] = each.model_copy(update={kind: source})
    state = pipeline.table.state
    table = pipeline.table.model_copy(
        update={
            "path": rooted(pipeline.table.path, "sink", "delta", "path"),
            "state": rooted(state, "sink", "delta", "state") if state else None,
        }
    )
    return pipeline.model_copy(
        update={"inputs": inputs, "sink": pipeline.sink.model_copy(update={"delta": table})}
    )


def _with_keys(each: Input, rooted: Callable[[str], str], root: Path) -> Input:
    if each.personal is None:
        return each
    personal = each.personal.of_project(str(root))
    if not is_factory(personal.keys):
        personal = personal.model_copy(update={"keys": rooted(personal.keys)})
    return each.model_copy(update={"personal": personal})


def _with_registry(source: KafkaSource, rooted: Callable[[str], str]) -> KafkaSource:
    if source.registry is None or source.registry.path is None:
        return source
    registry = source.registry.model_copy(update={"path": rooted(source.registry.path)})
    return source.model_copy(update={"registry": registry})
