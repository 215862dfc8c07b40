"""Row 3: readers beside a live stream, backfills and compaction see each interval before a swap or after it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.fire.mill import PER_FILE, Mill
from tests.profile import FULL
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request

pytestmark = [pytest.mark.row(3), pytest.mark.timeout(3600)]
BY_DELTALAKE, BY_SPARK = (1_000, 200) if FULL else (120, 20)


class Readers:
    """Reads again and again, at moments of their own, and keeps what they found wrong."""

    def __init__(self, mill: Mill, spark: SparkSession) -> None:
        self._mill, self._spark = mill, spark
        self._path = str(mill.folder / "data/readings")
        self._alone = threading.Lock()
        self.wrong: list[str] = []
        self.reads = 0

    def by_deltalake(self, times: int) -> None:
        for _ in range(times):
            self._look(DeltaTable(self._path).to_pyarrow_table(columns=["id", "v", "event_date"]).to_pylist())

    def by_spark(self, times: int) -> None:
        for _ in range(times):
            frame = self._spark.read.format("delta").load(self._path).select("id", "v", "event_date")
            self._look([row.asDict() for row in frame.collect()])

    def _look(self, rows: Iterable[dict[str, Any]]) -> None:
        found = mixture(list(rows), {event["id"]: event["v"] for event in self._mill.source.events[:]})
        with self._alone:
            self.reads += 1
            self._mill.tally.mixed_reads += bool(found)
            self.wrong += [found] if found else []


def mixture(rows: list[dict[str, Any]], values: dict[int, int]) -> str | None:
    """What no single moment of the table can have held; None when it is one that can.

    The stream reads files in order, with code of factor 1; a swap rewrites all that was read before its pin.
    """
    ids = sorted(row["id"] for row in rows)
    if ids != list(range(1, len(ids) + 1)) or len(ids) % PER_FILE:
        return f"{len(ids)} rows that are not whole files from the first on"
    days: dict[Any, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        days[row["event_date"]][row["v"] // values[row["id"]]].append(row["id"])
    for day, factors in days.items():
        swapped = {factor: ids for factor, ids in factors.items() if factor != 1}
        if len(swapped) > 1:
            return f"{day} holds rows of the swaps {sorted(swapped)}"
        if swapped and 1 in factors and max(next(iter(swapped.values()))) > min(factors[1]):
            return f"{day} holds a row that a swap should have replaced"
    return None


def test_no_read_sees_half_a_swap(mill: Callable[..., Mill], spark: SparkSession) -> None:
    world = mill(names=("readings",), spread=timedelta(hours=1))
    world.arrive(10)
    world.run()
    live = world.process("stream")
    # From here on it has the code of factor 1, whatever becomes of the file.
    world.arrive(1)
    live.wait_until(lambda: world.unread("readings") == 0, "a first batch")
    readers = Readers(world, spark)
    with ThreadPoolExecutor(3) as pool:
        reading = [
            pool.submit(readers.by_deltalake, BY_DELTALAKE // 2),
            pool.submit(readers.by_deltalake, BY_DELTALAKE // 2),
            pool.submit(readers.by_spark, BY_SPARK),
        ]
        swaps = 0
        while not all(each.done() for each in reading):
            world.arrive(1)
            world.use(world.factor + 1)
            done = world.engine.backfill("readings", Request(states=frozenset({State.STALE})))
            swaps += sum(chunk.outcome == "swapped" for chunk in done.chunks)
            world.tally.retried(max((chunk.retries for chunk in done.chunks), default=0))
            if swaps % 3 == 0:
                world.engine.maintain("readings")
        for each in reading:
            each.result()
    world.tally.reads += readers.reads
    assert readers.wrong == []
    assert readers.reads == BY_DELTALAKE + BY_SPARK
    assert swaps >= 3
    live.wait_until(lambda: world.unread("readings") == 0, "the last file")
    live.stop()
    world.settle()
