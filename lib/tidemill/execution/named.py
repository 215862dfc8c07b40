"""Which of a query's sources is which input: Spark numbers them, and describes each by what it reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tidemill.errors import ConfigError, StateError
from tidemill.execution.resume import is_anew
from tidemill.ledger.coverage import Coverage
from tidemill.model import Pipeline

_KAFKA = re.compile(r"KafkaV2\[(.*)\] at (.*)")
_ASSIGNED = re.compile(r"Assign\[(.*)\]")
_FOLDER = re.compile(r"\w+\[(?:file:/*(?=/))?(.*)\]")


def same_places(pipeline: Pipeline, coverage: Coverage, described: Sequence[str]) -> dict[str, int]:
    """As :func:`places_of`; raises :class:`StateError`, too, where an input has another place than when it was last read.

    Spark's checkpoint knows sources by their places alone: each would go on from the other's position.
    """
    found = places_of(pipeline, described)
    before = {} if is_anew(pipeline, coverage) else coverage.source_end or {}
    for name, place in found.items():
        was = (before.get(name) or {}).get("place", place)
        if was != place:
            raise StateError(
                f"{pipeline.name}: input {name} is source {place} of the stream, and was source {was} when it was last "
                "read: the transform uses its inputs in another order, or an earlier version of tidemill mistook one for "
                "another; each would be read on from another's position",
                next_step="put back the order and the checkpoint of the last batch that was published; or "
                + (
                    "move the checkpoint away: an event store reads on from where its ledger stands"
                    if pipeline.recorded
                    else f"move table and checkpoint away and begin anew: tidemill bootstrap {pipeline.name}"
                ),
                input=name,
            )
    return found


def places_of(pipeline: Pipeline, described: Sequence[str]) -> dict[str, int]:
    """The place of each input among the query's sources, by how Spark describes those; without inputs that no source is of.

    Raises :class:`ConfigError` where two inputs are one source, and :class:`StateError` where a source is of no input while
    an input has none: whose offsets they are would be a guess.
    """
    marks = [mark_of(text) for text in described]
    found: dict[str, int] = {}
    for name in pipeline.moving:
        mark = pipeline.inputs[name].source.mark
        # A source that the transform uses twice stands twice, with the same offsets.
        if mark not in marks:
            continue
        place = marks.index(mark)
        other = next((each for each, at in found.items() if at == place), None)
        if other is not None:
            raise ConfigError(
                f"{pipeline.name}: inputs {other} and {name} are one source, {mark}; nothing tells their positions apart",
                next_step="name it once, and use it twice in the transform",
                input=name,
            )
        found[name] = place
    known = {pipeline.inputs[name].source.mark for name in found}
    unknown = [text for text, mark in zip(described, marks, strict=True) if mark not in known]
    lacking = [name for name in pipeline.moving if name not in found]
    if unknown and lacking:
        raise StateError(
            f"{pipeline.name}: Spark reads {unknown[0]!r}, which is not known for input {lacking[0]}; how far that was read "
            "would not be known",
            next_step=f"name the source of {lacking[0]} as Spark describes it, or report this",
            input=lacking[0],
        )
    return found


def mark_of(described: str) -> str:
    """What a source's model has as its mark, from Spark's description.

    >>> mark_of("FileStreamSource[file:/data/in]"), mark_of("DeltaSource[s3://bucket/a [b]]")
    ('/data/in', 's3://bucket/a [b]')
    >>> mark_of("KafkaV2[Assign[b-0, a-1]] at broker:9092")  # of more than four topics Spark changes the order
    'Assign[a-1, b-0] at broker:9092'
    """
    topics = _KAFKA.fullmatch(described)
    if topics is not None:
        assigned = _ASSIGNED.fullmatch(topics[1])
        what = f"Assign[{', '.join(sorted(assigned[1].split(', ')))}]" if assigned else topics[1]
        return f"{what} at {topics[2]}"
    folder = _FOLDER.fullmatch(described)
    return described if folder is None else folder[1]
