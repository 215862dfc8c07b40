"""``tidemill status`` on a table of a thousand live commits: seconds, with its index and without. No JVM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.machine import this_machine
from bench.result import Result
from tidemill.config import load_project
from tidemill.intervals import interval_at
from tidemill.ledger import index
from tidemill.ledger.facts import LiveBatch, with_counts
from tidemill.model import Pipeline
from tidemill.sinks.files import DataFile, rows_by_label
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.stats import read_stats
from tidemill.sinks.table import AppVersion, LogTable
from tidemill.view import shape_of

COMMITS, QUICK_COMMITS = 1_000, 30
TIMES, QUICK_TIMES = 7, 2
SECONDS = 1.0
_START = datetime(2024, 3, 1, tzinfo=UTC)
_QUERY = "11111111-2222-3333-4444-555555555555"
_CONF = """\
source: {files: {path: in, format: json, schema: "id STRING, at TIMESTAMP, amount BIGINT"}}
event_time: {column: at, watermark: 10 minutes}
interval: day
sink: {delta: {path: table}}
"""
_SCHEMA = {
    "type": "struct",
    "fields": [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in (("id", "string"), ("at", "timestamp"), ("amount", "long"), ("event_date", "date"))
    ],
}
_PROBE = """\
import sys
from tidemill.cli.app import main
try:
    main(sys.argv[1:])
finally:
    print(*[name for name in ("pyspark", "py4j") if name in sys.modules], file=sys.stderr)
"""


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Make the table, then ask for its status as a person would, again and again."""
    pipeline = made(scratch, QUICK_COMMITS if quick else COMMITS)
    _see_that_no_jvm_starts(scratch)
    kept = Path(pipeline.table.state_path) / "index.json"
    taken: dict[bool, list[float]] = {False: [], True: []}
    answers = []
    for _ in range(QUICK_TIMES if quick else TIMES):
        for indexed in (False, True):
            kept.unlink(missing_ok=True)
            if indexed:
                index.refresh(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
            seconds, answer = ask(scratch)
            taken[indexed].append(seconds)
            answers.append(answer)
    print(
        f"status: {[round(s, 2) for s in taken[False]]} s cold, {[round(s, 2) for s in taken[True]]} s indexed"
    )
    machine, same = this_machine(), all(answer == answers[0] for answer in answers)
    return tuple(
        Result.of_pairs(
            name,
            [seconds / SECONDS for seconds in taken[indexed]],
            target=1.0,
            better="lower",
            machine=machine,
            same_results=same,
        )
        for name, indexed in (("status cold", False), ("status indexed", True))
    )


def _command(scratch: Path) -> list[str]:
    # The verb first: its options belong to it.
    return ["status", "--project", str(scratch), "--json"]


def ask(scratch: Path) -> tuple[float, Any]:
    """Seconds that ``tidemill status`` takes, as a process, and what it says."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tidemill.cli.app", *_command(scratch)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment(scratch))
    return time.monotonic() - began, json.loads(ran.stdout)


def _environment(scratch: Path) -> dict[str, str]:
    # As an installed program runs: compiled before, at the latest by the first look for a JVM.
    told = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return told | {"PYTHONPYCACHEPREFIX": str(scratch / "compiled")}


def _see_that_no_jvm_starts(scratch: Path) -> None:
    command = [sys.executable, "-c", _PROBE, *_command(scratch)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment(scratch))
    if ran.stderr.strip():
        msg = f"status loads {ran.stderr.strip()}"
        raise RuntimeError(msg)


def made(scratch: Path, commits: int) -> Pipeline:
    """A project in ``scratch`` whose one table has that many live commits; no JVM was needed."""
    (scratch / "conf/pipelines").mkdir(parents=True)
    (scratch / "conf/pipelines/events.yml").write_text(_CONF, encoding="utf-8")
    project = load_project(scratch)
    pipeline = project.pipeline("events")
    table = LogTable.create(pipeline.table.path, pipeline.grain, _SCHEMA)
    maker = _Batches(scratch, pipeline, project.fingerprint("events"))
    for batch in range(commits):
        files, fact = maker.write(batch)
        publish(table, Change(files, (), fact, AppVersion(f"tidemill/events/{_QUERY}", batch)))
    maker.write_checkpoint(commits)
    return pipeline


@dataclass(frozen=True, slots=True)
class _Batches:
    """Batches as a live stream leaves them: an event file read, a parquet file written, a fact."""

    root: Path
    pipeline: Pipeline
    fingerprint: str

    def write(self, batch: int) -> tuple[tuple[DataFile, ...], LiveBatch]:
        at = _START + timedelta(minutes=10 * batch)
        event = self.root / f"in/{batch:06d}.json"
        event.parent.mkdir(exist_ok=True)
        event.write_text("{}\n", encoding="utf-8")
        label = interval_at(self.pipeline.grain, at).label
        name = f"part-{uuid.uuid4().hex[:16]}/event_date={label}/part-0.parquet"
        path = Path(self.pipeline.table.path, name)
        path.parent.mkdir(parents=True)
        ids = [f"{batch}-{i}" for i in range(20)]
        columns = {"id": ids, "at": [at + timedelta(seconds=i) for i in range(20)], "amount": list(range(20))}
        pq.write_table(pa.table(columns), path)
        rows, stats = read_stats(str(path), _SCHEMA)
        status = path.stat()
        files = (DataFile(name, label, status.st_size, rows, int(status.st_mtime * 1000), stats),)
        begin = int(at.timestamp())
        fact = LiveBatch(
            pipeline="events",
            run="bench",
            fingerprint=self.fingerprint,
            query=_QUERY,
            batch=batch,
            source_start=self._end(batch - 1),
            source_end=self._end(batch),
            stateful=False,
            input_rows=rows,
            touched=((begin, begin + 600),),
        )
        return files, with_counts(fact, rows_by_label(files), {})

    def write_checkpoint(self, batches: int) -> None:
        """The part of Spark's checkpoint that a status reads: which files the stream has seen."""
        checkpoint = Path(self.pipeline.table.state_path) / "checkpoint"
        seen = checkpoint / "sources/0"
        seen.mkdir(parents=True)
        (checkpoint / "metadata").write_text(json.dumps({"id": _QUERY}), encoding="utf-8")
        entries = [
            json.dumps({"path": (self.root / f"in/{b:06d}.json").as_uri(), "timestamp": b, "batchId": b})
            for b in range(batches)
        ]
        # As Spark keeps it: every tenth step one file with all before it.
        compact = (batches // 10) * 10 - 1
        (seen / f"{compact}.compact").write_text("\n".join(["v1", *entries[: compact + 1]]), encoding="utf-8")
        for batch in range(compact + 1, batches):
            (seen / str(batch)).write_text(f"v1\n{entries[batch]}", encoding="utf-8")

    def _end(self, batch: int) -> dict[str, Any]:
        offset = {"logOffset": batch} if batch >= 0 else None
        return {"events": {"place": 0, "offset": offset}}
