"""How an event store goes on whose checkpoint is lost, by what its ledger knows.

Every command that it has decided is known by its id, so that nothing is decided twice, whatever is read again. But what is not read
is not decided: so a new stream does not begin where sources say that new streams begin, but where the last batch ended.
Brokers and tables can be read from there. A folder cannot, as which files were read stood in the checkpoint alone: all are
read again, some at a time. What was set aside already is not set aside a second time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.errors import StateError
from tidemill.ledger import inputs
from tidemill.ledger.coverage import Coverage
from tidemill.ledger.facts import Offsets
from tidemill.ledger.whole import replace_text
from tidemill.model import Pipeline
from tidemill.sinks.table import look
from tidemill.sources.live import ANYWHERE, Begin
from tidemill.storage import place

FILES_AT_ONCE = 1000
"""So many files a batch reads again, where the source says no number: as Delta has it."""


@dataclass(frozen=True, slots=True)
class Anew:
    """A checkpoint that stands in a lost one's place. ``query``: whose batches there are from before; ``since``: when."""

    query: str
    since: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What is kept beside a checkpoint. ``code`` made its states, which are named ``name``; ``folder``: see
    :class:`~tidemill.deciding.seeds.Seed`. ``form``: of the states, as tidemill writes them.
    """

    code: str
    name: str
    folder: str | None
    form: int = 1
    anew: Anew | None = None


def noted(pipeline: Pipeline) -> Noted | None:
    """What the last start has noted, if any has."""
    path = place(pipeline.table.state_path) / "decided.json"
    if not path.is_file():
        return None
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    anew = body.pop("anew", None)
    return Noted(**body, anew=Anew(**anew) if anew else None)


def note(pipeline: Pipeline, found: Noted) -> None:
    """Note it, whole or not at all."""
    replace_text(place(pipeline.table.state_path) / "decided.json", json.dumps(asdict(found)))


def is_lost(pipeline: Pipeline, coverage: Coverage) -> bool:
    """Whether batches were published, and the checkpoint by which they were read is not there: no stream has begun in its place."""
    return pipeline.recorded and coverage.live and not inputs.begun(f"{pipeline.table.state_path}/checkpoint")


def is_anew(pipeline: Pipeline, coverage: Coverage) -> bool:
    """Whether the last batch that was published is of a checkpoint that is lost: the one in its place has published nothing."""
    if not pipeline.recorded or not coverage.live:
        return False
    found = noted(pipeline)
    replaced = found is not None and found.anew is not None and found.anew.query == coverage.query
    return replaced or is_lost(pipeline, coverage)


def begin(pipeline: Pipeline, coverage: Coverage) -> Begin:
    """Where the inputs of a stream begin that has no checkpoint yet, and in what portions those are read that begin anew."""
    if not pipeline.recorded:
        return ANYWHERE
    found = noted(pipeline)
    if is_anew(pipeline, coverage):
        ends = coverage.source_end or {}
        _check_same(pipeline, ends)
        offsets = {name: end["offset"] for name, end in ends.items() if end.get("offset") is not None}
        return Begin(offsets, FILES_AT_ONCE)
    return Begin({}, FILES_AT_ONCE if found is not None and found.anew is not None else None)


def _check_same(pipeline: Pipeline, ends: Offsets) -> None:
    """Raise :class:`StateError` where a table was made anew since a batch read it: its versions are others."""
    for name, each in pipeline.inputs.items():
        read = (
            ((ends.get(name) or {}).get("offset") or {}).get("reservoirId")
            if each.delta is not None
            else None
        )
        if read is not None and each.delta is not None and read != look(each.delta.path).metadata().id:
            raise StateError(
                f"{pipeline.name}: {each.delta.path} was made anew since the last batch read it, and the checkpoint that "
                f"began to read it is lost",
                next_step="put the table back, or give the pipeline the new one under a new input name",
                input=name,
            )


def now(spark: SparkSession) -> str:
    """The time by the clock that dates rows which are set aside."""
    row = spark.range(1).select(F.current_timestamp().cast("string")).first()
    return str(row[0]) if row is not None else ""


def not_aside_before(rows: DataFrame, standing: DataFrame, anew: Anew) -> DataFrame:
    """The rows that were not set aside before the checkpoint was lost; ``standing``: the quarantine's, of the same input."""
    before = standing.where(F.col("at") < F.lit(anew.since).cast("timestamp")).select(
        F.col("record").alias("_record"), F.col("file").alias("_file")
    )
    same = rows["record"].eqNullSafe(before["_record"]) & rows["file"].eqNullSafe(before["_file"])
    return rows.join(before.distinct(), same, "left_anti")
