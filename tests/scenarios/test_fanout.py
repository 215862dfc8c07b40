"""``jobs/fanout.py``: one publisher, three subscribers; their tables against DuckDB over the package's CSV."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.fanout import tell
from jobs.flights_check import arrivals
from tests import oracle_flights
from tests.scenarios.processes import REPOSITORY
from tests.services.rabbitmq import Broker
from tidemill import Engine

pytestmark = pytest.mark.spark

DAYS = 1


def test_each_subscriber_has_its_own_place_and_every_table_is_exact(
    rabbit: Broker, tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", rabbit.url)
    shutil.copytree(
        REPOSITORY / "examples/fanout", tmp_path / "fanout", ignore=shutil.ignore_patterns("data")
    )
    events = [*chain.from_iterable(arrivals(tmp_path / "arriving", DAYS))]
    engine = Engine(tmp_path / "fanout", spark=spark)
    said: list[str] = []

    assert tell(engine, rabbit, events, said.append), said

    one, two = len(events) // 3, 2 * len(events) // 3
    assert f"board has read {two:,}, hourly {one:,}; now miles is added" in said
    assert any(line.startswith(f"miles has replayed {two:,}") for line in said)
    left = oracle_flights.departures(DAYS)
    assert left.num_rows > 0
    for name, query in {
        "board": "SELECT flight_id, scheduled_at, origin, dest, dep_delay FROM left_",
        "miles": "SELECT flight_id, scheduled_at, carrier, distance FROM left_",
        "hourly": """
            SELECT to_timestamp(epoch(scheduled_at)::BIGINT // 3600 * 3600) AS hour, origin, count(*) AS flights,
                   max(dep_delay) AS worst
            FROM left_ GROUP BY hour, origin""",
    }.items():
        assert _differ(tmp_path / "fanout/data/tables" / name, left, query) == ([], []), name


def _differ(path: Path, left: pa.Table, query: str) -> tuple[list[object], list[object]]:
    with duckdb.connect() as connection:
        connection.sql("SET TimeZone = 'UTC'")
        connection.register("left_", left)
        wanted = connection.sql(query).to_arrow_table()
        connection.register("wanted", wanted)
        connection.register(
            "held", DeltaTable(str(path)).to_pyarrow_table().select(wanted.column_names).cast(wanted.schema)
        )
        missing = connection.sql("SELECT * FROM wanted EXCEPT ALL SELECT * FROM held").fetchall()
        more = connection.sql("SELECT * FROM held EXCEPT ALL SELECT * FROM wanted").fetchall()
    return missing, more
