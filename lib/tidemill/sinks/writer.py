"""Which writer a table needs, read from its log's protocol and metadata. Pure: no JVM, no table opened.

The choice is made when a table is opened, and holds until it is closed:

- ``log commit``: Spark stages parquet files, deltalake publishes them. Chosen only when each rule of the table is
  known to be kept by files that nobody checks (a closed list: what is not on it is not taken on trust).
- ``spark``: Delta's own transaction in the JVM. It checks constraints, generates columns, maps column names and
  knows deletion vectors, and whatever features come.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tidemill.ledger.log import log_folder
from tidemill.storage import Place, parquet, read_texts

_HARMLESS = frozenset(
    {
        # Judged by what the table declares, see _declared: the feature alone asks nothing of a writer.
        "appendOnly",
        "invariants",
        "checkConstraints",
        "generatedColumns",
        # Commits that add and remove whole files carry their own change data.
        "changeDataFeed",
        "timestampNtz",
        "v2Checkpoint",
    }
)
_LAST_PLAIN_VERSION = 4
_FEATURES_VERSION = 7
_NAMES = {
    "deletionVectors": "deletion vectors",
    "columnMapping": "column mapping",
    "rowTracking": "row tracking",
    "inCommitTimestamp": "in-commit timestamps",
    "identityColumns": "identity columns",
    "typeWidening": "type widening",
    "allowColumnDefaults": "column defaults",
    "clustering": "clustering",
}
_CHECK = "delta.constraints."
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\..*(?:parquet|json)")


@dataclass(frozen=True, slots=True)
class Writer:
    """How a sink publishes, and why not by log commits where it does not.

    ``append_only``: rows may be added and never taken away, whoever writes.
    """

    kind: Literal["log commit", "spark"]
    why: str = ""
    append_only: bool = False

    @property
    def text(self) -> str:
        """The writer, for a person."""
        name = "one log commit" if self.kind == "log commit" else "Spark's Delta writer"
        notes = [self.why] if self.why else []
        if self.append_only:
            notes.append("the table is append-only: a swap that takes rows away is refused")
        return f"{name}: {'; '.join(notes)}" if notes else name


def choose(path: str) -> Writer:
    """The writer for the table at ``path``; one that is not there yet is made for log commits."""
    found = read(path)
    return Writer("log commit") if found is None else decide(*found)


def decide(protocol: Mapping[str, Any], metadata: Mapping[str, Any]) -> Writer:
    """The writer for a table with this ``protocol`` and ``metaData`` action.

    >>> plain = {"minReaderVersion": 1, "minWriterVersion": 2}
    >>> decide(plain, {"configuration": {}, "schemaString": '{"fields": []}'}).kind
    'log commit'
    >>> decide(plain, {"configuration": {"delta.constraints.c": "v > 0"}, "schemaString": '{"fields": []}'}).why
    'the table has the CHECK constraint c'
    """
    configuration = dict(metadata.get("configuration") or {})
    reasons = [*_declared(configuration, json.loads(metadata["schemaString"])), *_demanded(protocol)]
    append_only = configuration.get("delta.appendOnly", "").lower() == "true"
    if not reasons:
        return Writer("log commit", append_only=append_only)
    return Writer("spark", f"the table has {', '.join(dict.fromkeys(reasons))}", append_only)


def _declared(configuration: Mapping[str, str], schema: Mapping[str, Any]) -> Iterator[str]:
    """What properties and columns ask of whoever writes rows."""
    checks = sorted(key.removeprefix(_CHECK) for key in configuration if key.startswith(_CHECK))
    if checks:
        yield f"the CHECK constraint{'s'[: len(checks) > 1]} {', '.join(checks)}"
    if configuration.get("delta.columnMapping.mode", "none") != "none":
        yield _NAMES["columnMapping"]
    for name, field in _fields(schema):
        tags = field.get("metadata") or {}
        if "delta.generationExpression" in tags:
            yield f"the generated column {name}"
        if "delta.identity.start" in tags:
            yield f"the identity column {name}"
        if "delta.invariants" in tags or not field.get("nullable", True):
            yield f"a rule on the column {name}"
        if "__CHAR_VARCHAR_TYPE_STRING" in tags:
            yield f"a length limit on the column {name}"


def _demanded(protocol: Mapping[str, Any]) -> Iterator[str]:
    """What the protocol asks of whoever writes or reads files."""
    version = int(protocol.get("minWriterVersion", 1))
    if version == _FEATURES_VERSION:
        features = {*(protocol.get("writerFeatures") or ()), *(protocol.get("readerFeatures") or ())}
        yield from (_NAMES.get(name, f"the feature {name}") for name in sorted(features - _HARMLESS))
    elif version > _LAST_PLAIN_VERSION:
        yield f"writer version {version}"


def _fields(schema: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for field in schema["fields"]:
        yield f"{above}{field['name']}", field
        yield from _inner(field["type"], f"{above}{field['name']}.")


def _inner(kind: Any, above: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(kind, dict):
        return
    if kind["type"] == "struct":
        yield from _fields(kind, above)
    for part in ("elementType", "keyType", "valueType"):
        yield from _inner(kind.get(part), above)


def read(path: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The newest ``protocol`` and ``metaData`` of a table's log; None when there is no table.

    Reads the commits from the newest back to the newest checkpoint, and that checkpoint if need be.
    """
    folder = log_folder(path)
    names = [entry.name for entry in folder.glob("*")]
    commits = sorted((n for n in names if n.endswith(".json") and n[:-5].isdigit()), reverse=True)
    found: dict[str, dict[str, Any]] = {}
    checkpoint, parts = _newest_checkpoint(names)
    since = [name for name in commits if checkpoint is None or int(name[:-5]) > checkpoint]
    for text in read_texts([folder / name for name in since]):
        lines = text.splitlines()
        _take(found, (json.loads(line) for line in lines if line.startswith(('{"protocol', '{"metaData'))))
        if len(found) == 2:
            break
    for name in parts:
        if len(found) < 2:
            _take(found, _checkpointed(folder / name))
    return (found["protocol"], found["metaData"]) if len(found) == 2 else None


def _take(found: dict[str, dict[str, Any]], actions: Iterator[dict[str, Any]]) -> None:
    # Newer files come first, and a commit holds each of these once: what was found stays.
    for action in actions:
        for kind in ("protocol", "metaData"):
            if action.get(kind):
                found.setdefault(kind, action[kind])


def _newest_checkpoint(names: list[str]) -> tuple[int | None, list[str]]:
    matches = [match for name in names if (match := _CHECKPOINT.fullmatch(name))]
    newest = max((int(match[1]) for match in matches), default=None)
    return newest, sorted(match[0] for match in matches if int(match[1]) == newest)


def _checkpointed(path: Place) -> Iterator[dict[str, Any]]:
    if path.suffix == ".json":
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return
    import pyarrow.parquet as pq  # only where a log was cleaned or is long

    yield from pq.read_table(parquet(path), columns=["protocol", "metaData"]).to_pylist(
        maps_as_pydicts="strict"
    )
