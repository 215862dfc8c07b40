"""A quarantine on a store, written as the pipeline's own table is: staged by Spark, published by a conditional write.

Spark's Delta writer is safe there for one process only, and a live run and a backfill are two. A commit here follows exactly
the version that it was made from; where another came first, it is made again.
"""

from __future__ import annotations

import json
import time
import uuid

from deltalake import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.errors import CommitConflict
from tidemill.ledger import log
from tidemill.sinks import commit
from tidemill.sinks.commit import Entry
from tidemill.sinks.stats import read_stats
from tidemill.sinks.table import CHECKPOINT_EVERY, AppVersion, checkpoint, look, make
from tidemill.storage import Unknown, parquet, place, remove_tree, walk

_ATTEMPTS = 20


def append(rows: DataFrame, path: str, app: AppVersion) -> int:
    """Commit rows, once for an application's version; give how many they are."""
    _create(rows, path)
    attempt, adds, written = _staged(rows, path)
    for _ in range(_ATTEMPTS):
        table = look(path)
        done = table.transaction_version(app.app)
        if done is not None and done >= app.version:
            return written  # a commit whose reply was lost may name what was staged
        if _committed(path, table.version(), adds, [], app):
            return written
    remove_tree(place(path) / attempt)
    raise _conflict(path)


def replace(rows: DataFrame, path: str, where: str) -> None:
    """Make ``rows`` those for which ``where``, a condition in SQL, holds; in one commit, and done again it is the same."""
    _create(rows, path)
    for _ in range(_ATTEMPTS):
        table = look(path)
        stands = rows.sparkSession.read.format("delta").option("versionAsOf", table.version()).load(path)
        name = F.col("_metadata.file_name")
        held = {row[0] for row in stands.where(where).select(name).distinct().collect()}
        others = stands.where(name.isin(sorted(held)) & ~F.coalesce(F.expr(where), F.lit(False)))
        _, adds, _ = _staged(others.unionByName(rows), path)
        if _committed(
            path, table.version(), adds, [e for e in _live(table) if e.path.rpartition("/")[2] in held], None
        ):
            return
    raise _conflict(path)


def _create(rows: DataFrame, path: str) -> None:
    if log.exists(path):
        return
    fields = [{**field, "nullable": True} for field in json.loads(rows.schema.json())["fields"]]
    make(path, {"type": "struct", "fields": fields}, [])


def _staged(rows: DataFrame, path: str) -> tuple[str, list[Entry], int]:
    attempt = f"part-{uuid.uuid4().hex[:16]}"
    rows.write.parquet(f"{path}/{attempt}")
    schema = json.loads(rows.schema.json())
    adds, written = [], 0
    for file in walk(place(path) / attempt):
        count, stats = read_stats(parquet(place(path) / attempt / file.path), schema)
        written += count
        if count:
            adds.append(Entry(f"{attempt}/{file.path}", file.size, {}, file.modified, stats))
    return attempt, adds, written


def _live(table: DeltaTable) -> list[Entry]:
    actions = table.get_add_actions(flatten=True)
    both = zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True)
    return [Entry(path, size, {}, 0) for path, size in both]


def _committed(
    path: str, version: int, add: list[Entry], remove: list[Entry], app: AppVersion | None
) -> bool:
    if not add and not remove and app is None:
        return True
    done = (app.app, app.version) if app else None
    body = commit.text(add, remove, metadata="", app=done, at=int(time.time() * 1000), partition_by="")
    try:
        if not commit.put(path, version + 1, body):
            return False
    except Unknown:
        return False  # the application's version tells; a replacement is done again
    if (version + 1) % CHECKPOINT_EVERY == 0:
        checkpoint(path, version + 1)
    return True


def _conflict(path: str) -> CommitConflict:
    return CommitConflict(
        f"{path}: {_ATTEMPTS} commits by others came first", next_step="run it again", table=path
    )
