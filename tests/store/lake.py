"""A project whose table, quarantine, checkpoint and ledger are on a store, and what the table must hold.

``readings`` keeps no state; events have ids of their own. The code has a factor, so that rows tell which code wrote them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.services.s3 import KEY, REGION, SECRET, Store
from tidemill import Engine

PER_FILE = 20
DAYS = 2
_RULES = """
name: sensors
expectations:
  - type: expect_column_values_to_be_in_set
    kwargs: {column: sensor, value_set: [a, b, c]}
    meta: {action: quarantine}
"""
_PIPELINE = """
name: readings
source:
  files: {{path: {source}, format: json, schema: "id BIGINT, sensor STRING, at TIMESTAMP, v BIGINT", max_files_per_batch: 1}}
event_time: {{column: at}}
interval: day
transform: lake_code:readings
quality: {{inputs: {{events: sensors}}}}
gate: {{max_removed: null}}
chunk: 1
sink: {{delta: {{path: "s3://{bucket}/tables/readings"}}}}
trigger: {{available_now: true}}
"""
_MOVES = """
name: totals
source:
  files: {{path: "s3://{bucket}/moves", format: json, schema: "sensor STRING, at TIMESTAMP, v BIGINT", max_files_per_batch: 1}}
event_time: {{column: at, watermark: 1 hour}}
interval: day
transform: lake_code:totals
chunk: 1
sink: {{delta: {{path: "s3://{bucket}/tables/totals", keep_states: 1d}}}}
trigger: {{available_now: true}}
"""
_CODE = """
from tidemill.folds import Fold, fold


class Total(Fold):
    key, time, buckets = ("sensor",), "at", 2
    state = "total BIGINT"
    output = "sensor STRING, at TIMESTAMP, total BIGINT"

    def zero(self):
        return (0,)

    def step(self, state, row):
        return (state[0] + row.v,), [(row.sensor, row.at, state[0] + row.v)]


def totals(moves):
    return fold(moves, Total())


def readings(events):
    return events.selectExpr('id', 'sensor', 'at', 'v * {factor} AS v')
"""


class Lake:
    """The project in a folder, its events so far, and what they come to. Where ``events_on_store``, they come in there."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        bucket: str,
        spark: SparkSession | None,
        *,
        events_on_store: bool = True,
    ) -> None:
        self.folder, self.store, self.bucket = folder, store, bucket
        self._spark, self._s3 = spark, store.client()
        self._events_on_store = events_on_store
        self.events: list[dict[str, Any]] = []
        self.bad = 0
        self._files = 0
        for part in ("conf/pipelines", "conf/suites", "data/in"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        source = f"s3://{bucket}/my in" if events_on_store else "data/in"
        (folder / "conf/pipelines/readings.yml").write_text(_PIPELINE.format(bucket=bucket, source=source))
        (folder / "conf/pipelines/totals.yml").write_text(_MOVES.format(bucket=bucket))
        (folder / "conf/suites/sensors.yml").write_text(_RULES)
        self.use(1)

    def use(self, factor: int) -> Engine:
        """From now on the code has this factor."""
        self.factor = factor
        (self.folder / "lake_code.py").write_text(_CODE.format(factor=factor))
        self.engine = Engine(self.folder, spark=self._spark)
        return self.engine

    def arrive(self, files: int = 1, *, bad: int = 0) -> None:
        """Files of events come in, with events of every day, and ``bad`` ones of a sensor that is not known."""
        for _ in range(files):
            start = len(self.events)
            good = [
                {
                    "id": i,
                    "sensor": "abc"[i % 3],
                    "at": f"2024-03-0{1 + i % DAYS}T{i % 24:02}:00:00Z",
                    "v": i % 9,
                }
                for i in range(start, start + PER_FILE)
            ]
            wrong = [
                {"id": -i, "sensor": "x", "at": "2024-03-01T05:00:00Z", "v": 1} for i in range(1, 1 + bad)
            ]
            self.events += good
            self.bad += bad
            self._files += 1
            text = "\n".join(json.dumps(each) for each in (*good, *wrong))
            self.put(f"{self._files:04} [a] é.json", text.encode())

    def put(self, name: str, body: bytes) -> None:
        """A file comes in."""
        if self._events_on_store:
            self._s3.put_object(Bucket=self.bucket, Key=f"my in/{name}", Body=body)
            return
        hidden = self.folder / "data/in" / f".{name}"
        hidden.write_bytes(body)
        hidden.rename(hidden.with_name(name))

    def move(self, *moves: tuple[str, str, int]) -> None:
        """A file of sensor, time and value for ``totals``, whose fold never forgets."""
        self._files += 1
        lines = [json.dumps({"sensor": sensor, "at": at, "v": v}) for sensor, at, v in moves]
        self._s3.put_object(
            Bucket=self.bucket, Key=f"moves/{self._files:04}.json", Body="\n".join(lines).encode()
        )

    # -- what the store holds, by clients that are told how to reach it themselves

    def table(self, name: str = "readings") -> DeltaTable:
        options = {
            "aws_endpoint": self.store.endpoint,
            "aws_allow_http": "true",
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
            "aws_region": REGION,
        }
        return DeltaTable(f"s3://{self.bucket}/tables/{name}", storage_options=options)

    def rows(self, name: str = "readings") -> list[dict[str, Any]]:
        return list(self.table(name).to_pyarrow_table().to_pylist())

    def objects(self) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def body(self, name: str) -> bytes:
        found: bytes = self._s3.get_object(Bucket=self.bucket, Key=name)["Body"].read()
        return found

    def check(self, *, factors: set[int] | None = None) -> None:
        """The table holds each event once, of code of one of these factors (the newest by default); as does the ledger."""
        rows = self.rows()
        assert Counter(row["id"] for row in rows) == Counter(event["id"] for event in self.events)
        v = {event["id"]: event["v"] for event in self.events}
        for row in rows:
            assert row["v"] in {v[row["id"]] * factor for factor in factors or {self.factor}}
        days = Counter(event["at"][:10] for event in self.events)
        assert {each.interval: each.rows for each in self.engine.coverage("readings").rows} == dict(days)
        if self.bad:
            assert len(self.rows("readings_quarantine")) == self.bad
