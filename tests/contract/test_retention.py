"""Retention on a real log: what goes, up to which offsets, and what others do meanwhile. No Spark."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from tidemill.cli.app import app
from tidemill.config import load_project
from tidemill.execution.retention import Gone, expire
from tidemill.intervals import Grain
from tidemill.ledger import index
from tidemill.ledger.facts import LiveBatch
from tidemill.ledger.kept import Kept
from tidemill.model import Pipeline
from tidemill.protocol import Point, listening
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.stats import read_stats
from tidemill.sinks.table import AppVersion, LogTable
from tidemill.view import shape_of

NOW = datetime(2024, 5, 4, 12, tzinfo=UTC)
SECOND = int(datetime(2024, 5, 2, tzinfo=UTC).timestamp())
COLUMNS = {"topic": "string", "partition": "integer", "offset": "long", "event_date": "date"}
SCHEMA = {
    "type": "struct",
    "fields": [
        {"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in COLUMNS.items()
    ],
}
Row = tuple[str, int, int]


INGEST = """
name: ingest
source:
  kafka: {servers: "b:9092", topics: [a, b], format: raw, with: [topic, partition, offset, timestamp, key, headers]}
event_time: {column: timestamp}
interval: day
sink: {delta: {path: data/raw, retain: {age: 2 days}}}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    (tmp_path / "conf/pipelines").mkdir(parents=True)
    (tmp_path / "conf/pipelines/ingest.yml").write_text(INGEST)
    return load_project(tmp_path).pipeline("ingest")


def land(pipeline: Pipeline, batch: int, day: int, rows: Iterable[Row]) -> None:
    """A batch of one file, as a live stream publishes it."""
    label, found = f"2024-05-{day:02}", list(rows)
    folder = Path(pipeline.table.path, f"part-{batch}", f"event_date={label}")
    folder.mkdir(parents=True)
    topics, partitions, offsets = zip(*found, strict=True)
    body = {
        "topic": pa.array(topics),
        "partition": pa.array(partitions, pa.int32()),
        "offset": pa.array(offsets, pa.int64()),
    }
    pq.write_table(pa.table(body), folder / "a.parquet")
    count, stats = read_stats(str(folder / "a.parquet"), SCHEMA)
    path = f"part-{batch}/event_date={label}/a.parquet"
    file = DataFile(path, label, (folder / "a.parquet").stat().st_size, count, 0, stats)
    fact = LiveBatch("ingest", "run", "code", "query", batch, {}, {}, stateful=False, added={label: count})
    table = LogTable.create(pipeline.table.path, Grain.DAY, SCHEMA)
    publish(table, Change((file,), (), fact, AppVersion("live", batch)))


def left(pipeline: Pipeline) -> list[Row]:
    rows = DeltaTable(pipeline.table.path).to_pyarrow_table().to_pylist()
    return sorted((row["topic"], row["partition"], row["offset"]) for row in rows)


def kept(pipeline: Pipeline) -> Kept | None:
    return index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline)).kept


def taken(pipeline: Pipeline, *, dry_run: bool = False) -> Gone:
    table = LogTable.open(pipeline.table.path, Grain.DAY)
    assert table is not None
    return expire(pipeline, table, NOW, dry_run=dry_run)


def test_it_says_from_which_offset_each_partition_is_whole(pipeline: Pipeline):
    land(pipeline, 0, 1, [("a", 0, 0), ("a", 0, 1), ("a", 1, 5), ("b", 0, 2)])
    land(pipeline, 1, 2, [("a", 0, 2), ("a", 1, 6)])
    # A producer whose clock is behind: of partition 0 everything up to this record may have a hole.
    land(pipeline, 2, 1, [("a", 0, 3)])
    land(pipeline, 3, 4, [("a", 0, 4)])

    would = taken(pipeline, dry_run=True)
    assert (would.intervals, would.rows, kept(pipeline)) == (("2024-05-01",), 5, None)
    assert len(left(pipeline)) == 8
    assert taken(pipeline) == would
    assert left(pipeline) == [("a", 0, 2), ("a", 0, 4), ("a", 1, 6)]
    assert kept(pipeline) == Kept(SECOND, {"a": {"0": 4, "1": 6}, "b": {"0": 3}}, 5)
    assert taken(pipeline) == Gone()


def test_files_that_are_compacted_meanwhile_go_all_the_same(pipeline: Pipeline):
    land(pipeline, 0, 1, [("a", 0, 0)])
    land(pipeline, 1, 1, [("a", 0, 1)])
    land(pipeline, 2, 2, [("a", 0, 2)])
    came: list[Point] = []

    def listen(point: Point) -> None:
        if point is Point.COMMIT_CHECKED and not came:
            came.append(point)
            DeltaTable(pipeline.table.path).optimize.compact()

    with listening(listen):
        assert taken(pipeline).rows == 2
    assert came
    assert left(pipeline) == [("a", 0, 2)]
    assert kept(pipeline) == Kept(SECOND, {"a": {"0": 2}}, 2)


def test_the_command_line_says_what_goes(pipeline: Pipeline, tmp_path: Path):
    land(pipeline, 0, 1, [("a", 0, 0), ("a", 0, 1)])
    land(pipeline, 1, 3, [("a", 0, 2)])

    def called(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--project", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    # By the real clock, the third of May is as old as the first.
    assert "expired 2 intervals: 2024-05-01 to 2024-05-03; 3 rows," in called(
        "maintain", "ingest", "--dry-run"
    )
    assert left(pipeline) == [("a", 0, 0), ("a", 0, 1), ("a", 0, 2)]
    called("maintain", "ingest")
    assert left(pipeline) == []
    assert "kept 2024-05-04T00:00 and later; 3 rows from before have gone (retain)" in called(
        "status", "ingest"
    )


def test_nothing_goes_where_nothing_is_said(pipeline: Pipeline):
    table = pipeline.table.model_copy(update={"retain": None})
    keeping = pipeline.model_copy(update={"sink": pipeline.sink.model_copy(update={"delta": table})})
    land(keeping, 0, 1, [("a", 0, 0)])
    assert taken(keeping) == Gone()
    assert left(keeping) == [("a", 0, 0)]
