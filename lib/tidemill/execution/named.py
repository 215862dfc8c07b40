"""Which of a query's sources is which input: Spark numbers them, and describes each by its path. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.model import Pipeline


def places_of(pipeline: Pipeline, described: Sequence[str]) -> dict[str, int]:
    """The place of each input among the query's sources, by how Spark describes those."""
    found: dict[str, int] = {}
    for name, each in pipeline.inputs.items():
        path = each.source.mark
        places = [i for i, text in enumerate(described) if path in text and i not in found.values()]
        if each.static or not places:
            continue
        # The longest description wins nothing: paths are compared whole, so that a/b is not a/bc.
        exact = [i for i in places if _ends_path(described[i], path)]
        found[name] = (exact or places)[0]
    return found


def _ends_path(text: str, path: str) -> bool:
    after = text.partition(path)[2]
    return not after or after[0] in "]'\") ,"
