"""Whether what sources name as their archives are any: pipelines that land every record of a topic as it came."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from tidemill.config.text import Document, Place
from tidemill.intervals import Grain
from tidemill.model import ARCHIVED, SINGLE_INPUT, KafkaSource, Pipeline

_FORM = (
    "an archive is: source: {kafka: {..., format: raw, with: ["
    + ", ".join(ARCHIVED)
    + "]}}, no transform, no rules"
)


def check_archives(pipelines: Mapping[str, Pipeline], documents: Mapping[str, Document]) -> None:
    """Raise :class:`ConfigError`, with file and line, where an archive is none, or is none of what its reader reads; and
    where rows are to go from a table whose readers need them to stay.
    """
    for pipeline in pipelines.values():
        document = documents[pipeline.name]
        for name, each in pipeline.inputs.items():
            if each.kafka is not None and each.kafka.archive is not None:
                at = (*_place(document, name), "kafka", "archive")
                _check(pipelines, pipeline, each.kafka, each.kafka.archive.pipeline, document, at)
            _check_read(pipelines, pipeline, name, document)
        if pipeline.table.retain is not None and (why := not_an_archive(pipeline)):
            raise document.error(
                ("sink", "delta", "retain"), f"only an archive is retained by age or size: {why}", _FORM
            )


def not_an_archive(pipeline: Pipeline) -> str | None:
    """Why a pipeline's table is not made of a topic's records as they came; None when it is."""
    source = next(iter(pipeline.inputs.values())).source
    if len(pipeline.inputs) != 1 or not isinstance(source, KafkaSource):
        return "its one source is not of Kafka"
    missing = [name for name in ARCHIVED if name not in source.columns]
    if source.format != "raw":
        return f"its format is {source.format}, not raw"
    if missing:
        return f"with does not name {', '.join(missing)}"
    if {pipeline.event_time_of(next(iter(pipeline.inputs))).column, pipeline.interval_column} != {
        "timestamp"
    }:
        return "its event time is not the broker's timestamp"
    if pipeline.grain is Grain.ALL:
        return "its interval is all of time"
    if pipeline.transform:
        return "it has a transform"
    if pipeline.table.mode != "append":
        return "its sink replaces rows"
    suites = [*pipeline.quality.inputs.values(), *filter(None, [pipeline.quality.suite])]
    if any(each.changes_rows for suite in suites for each in suite.expectations):
        return "it has rules that leave rows out"
    return None


def _check(
    pipelines: Mapping[str, Pipeline],
    reader: Pipeline,
    source: KafkaSource,
    named: str,
    document: Document,
    at: Place,
) -> None:
    archive = pipelines.get(named)
    if archive is None or archive is reader:
        near = difflib.get_close_matches(named, pipelines.keys() - {reader.name}, n=1)
        raise document.error(
            at,
            f"there is no pipeline {named!r} that could be the archive",
            f"did you mean {near[0]!r}?" if near else "name the pipeline that lands the raw records",
        )
    why = not_an_archive(archive)
    if why:
        raise document.error(at, f"{named} is no archive: {why}", _FORM)
    landed = next(iter(archive.inputs.values())).kafka
    if landed is None:
        raise AssertionError  # not_an_archive saw to it
    # Of a pattern, only the broker can tell what it means.
    missing = [] if landed.pattern else [topic for topic in source.named if topic not in landed.named]
    if missing:
        raise document.error(at, f"{named} does not land {', '.join(missing)}", "add it to its topics")
    if landed.isolation != source.isolation:
        raise document.error(
            at,
            f"{named} reads {landed.isolation} records, and {reader.name} {source.isolation} ones",
            "give both the same kafka.isolation.level",
        )


def _check_read(pipelines: Mapping[str, Pipeline], pipeline: Pipeline, name: str, document: Document) -> None:
    each = pipeline.inputs[name]
    if each.delta is None or each.static:
        return
    upstream = next((p for p in pipelines.values() if p.table.path == each.delta.path), None)
    if upstream is not None and upstream.table.retain is not None:
        raise document.error(
            (*_place(document, name), "delta"),
            f"{upstream.name} keeps its rows for a time only (retain), and history is read from it",
            f"read the topic, with archive: {upstream.name}; or take retain from there",
        )


def _place(document: Document, name: str) -> Place:
    several = isinstance(document.value, dict) and "sources" in document.value
    return ("sources", name) if several or name != SINGLE_INPUT else ("source",)
