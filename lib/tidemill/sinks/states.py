"""The table of a fold's states beside a sink's: its columns, and how they follow those of the fold."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame

from tidemill.errors import StateError
from tidemill.folds.evolve import widens
from tidemill.model import Pipeline
from tidemill.sinks import commit
from tidemill.sinks.stage import table_schema
from tidemill.sinks.table import LogTable, look

_ATTEMPTS = 50
_ARROW = {"byte": "int8", "short": "int16", "integer": "int32", "long": "int64"}


def fitting(rows: DataFrame, pipeline: Pipeline) -> LogTable:
    """The table, made where there is none, with room for ``rows``: fields of the state are added and widened, none is taken
    away, and none made narrower.

    Files keep the types that they were written with: whoever reads them widens. Raises :class:`StateError` for a key of other
    columns, and a field of which what is kept cannot be read as it is now.
    """
    wanted = table_schema(rows, pipeline)
    table = LogTable.open(pipeline.states_path, pipeline.grain)
    if table is None:
        return LogTable.create(pipeline.states_path, pipeline.grain, wanted)
    for _ in range(_ATTEMPTS):
        merged = _merged(table.schema, wanted, pipeline)
        if merged == table.schema or _altered(table, merged):
            return table
        table.refresh()
    raise StateError(
        f"{table.path}: its columns cannot be changed", next_step="run it again", table=table.path
    )


def _merged(have: Mapping[str, Any], want: Mapping[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    fields = []
    wanted = {each["name"]: each for each in want["fields"]}
    for each in have["fields"]:
        mine = wanted[each["name"]]
        if each["name"] != "state":
            if each["type"] != mine["type"]:
                raise _unfit(pipeline, f"the {each['name']}", "put it back")
            fields.append(each)
            continue
        states = {field["name"]: field for field in each["type"]["fields"]}
        for field in mine["type"]["fields"]:
            known = states.setdefault(field["name"], field)
            if _widens(known["type"], field["type"]):
                states[field["name"]] = field
            elif not _widens(field["type"], known["type"]):  # code of before, which has come back
                raise _unfit(
                    pipeline,
                    f"state field {field['name']}: {_type(field)}, and {_type(known)} is kept;",
                    "keep the type or a wider one, or add a field of another name",
                )
        fields.append({**each, "type": {**each["type"], "fields": list(states.values())}})
    return {**have, "fields": fields}


def _widens(old: Any, new: Any) -> bool:
    if isinstance(old, str) and isinstance(new, str):
        return widens(_ARROW.get(old, old), _ARROW.get(new, new))
    return bool(old == new)


def _type(field: Mapping[str, Any]) -> str:
    kind = field["type"]
    return kind if isinstance(kind, str) else str(kind["type"])


def _unfit(pipeline: Pipeline, what: str, back: str) -> StateError:
    return StateError(
        f"{pipeline.name}: {what} has another type in {pipeline.states_path}, which keeps the states at interval ends",
        next_step=f"{back}; or move that table away, and have all of it made anew: "
        f"tidemill backfill {pipeline.name} --dirty --stale --missing",
        table=pipeline.states_path,
    )


def _altered(table: LogTable, schema: Mapping[str, Any]) -> bool:
    """Whether the table has these columns now; not when another commit came first."""
    known = look(table.path).metadata()
    body = {
        "id": str(known.id),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps(schema),
        "partitionColumns": list(known.partition_columns),
        "configuration": dict(known.configuration),
        "createdTime": known.created_time,
    }
    info = {"timestamp": int(time.time() * 1000), "operation": "ADD COLUMNS", "engineInfo": "tidemill"}
    text = "\n".join(json.dumps(line) for line in ({"commitInfo": info}, {"metaData": body})) + "\n"
    done = commit.put(table.path, table.version + 1, text)
    table.refresh()
    return done
