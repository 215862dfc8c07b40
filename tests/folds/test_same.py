"""The same fold on a stream and on a batch of Spark's: equal rows, and the rows that a timetable gives."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.folds.histories import BEGIN, MINUTE, Event, Ladder, Out, State, expected, history
from tidemill.errors import ConfigError
from tidemill.folds import Fold, fold

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark
SCHEMA = "key STRING, at TIMESTAMP, seq BIGINT, value BIGINT"
NAMES = [f"k{i}" for i in range(120)]
END = Event("end", 60 * 24 * 30, 0, 0)


def line(event: Event) -> str:
    values = {"key": event.key, "at": event.moment.isoformat(), "seq": event.seq, "value": event.value}
    return json.dumps(values)


def write(folder: Path, batches: Iterable[list[Event]]) -> None:
    folder.mkdir()
    for number, events in enumerate(batches):
        (folder / f"{number:03}.json").write_text("\n".join(map(line, events)))


def rows(frame: DataFrame) -> list[Out]:
    return [(r["key"], r["at"].astimezone(UTC), r["what"], r["n"], r["total"]) for r in frame.collect()]


def streamed(spark: SparkSession, folder: Path, files: int) -> list[Out]:
    reader = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", files)
    frame = fold(reader.json(str(folder)).withWatermark("at", "30 minutes"), Ladder())
    found: list[Out] = []
    writer = frame.writeStream.foreachBatch(lambda batch, _: found.extend(rows(batch)))
    writer.trigger(availableNow=True).option(
        "checkpointLocation", f"{folder}-{files}"
    ).start().awaitTermination()
    return found


def test_stream_and_batch_give_what_a_timetable_gives(spark: SparkSession, tmp_path: Path):
    """Each key is a history of its own; rows come up to 20 minutes late, in batches of any size."""
    dice = random.Random(20240228)
    events = [event for name in NAMES for event in history(name, dice)]
    events += [Event(None, n * 50, 0, n) for n in range(9)]
    # The watermark is 30 minutes behind the newest row of the batch before: with this jitter, no row comes too late.
    arrival = sorted(events, key=lambda e: e.at + dice.randrange(20))
    cuts = sorted(dice.sample(range(len(arrival)), 3))
    batches = [arrival[a:b] for a, b in zip([0, *cuts], [*cuts, len(arrival)], strict=True)]
    write(tmp_path / "in", [*batches, [END]])
    whole = spark.read.schema(SCHEMA).json(str(tmp_path / "in"))
    want = expected(events)
    assert {row[2] for row in want} == {"row", "timer", "tied", "null", "unlucky"}
    assert Counter(row for row in rows(fold(whole, Ladder())) if row[0] != "end") == want
    for files in (1, 3):
        found = Counter(row for row in streamed(spark, tmp_path / "in", files) if row[0] != "end")
        assert found == want


class Nowhere(Ladder):
    key = ("user",)


class Floats(Ladder):
    order_by = ("ratio",)


class Floating(Ladder):
    state = "n BIGINT, total FLOAT, due TIMESTAMP, rung INT"


class Listed(Ladder):
    state = "n BIGINT, total ARRAY<BIGINT>, due TIMESTAMP, rung INT"

    def zero(self) -> Any:
        return State(0, (), None, 0)  # type: ignore[arg-type]


class Zeroes(Ladder):
    def zero(self) -> Any:
        return (0, 0)


@pytest.mark.parametrize(
    ("by", "says"),
    [
        (Nowhere(), "the frame has no column 'user'"),
        (Floats(), "ratio is double, which cannot be an order"),
        (Floating(), "state field total is float, which does not come back"),
        (Listed(), r"zero\(\) gives \(\) for total, which comes back from a store as \[\]"),
        (Zeroes(), r"zero\(\) gives \(0, 0\), and state has n, total, due, rung"),
    ],
)
def test_a_fold_that_does_not_fit_the_frame_is_refused(spark: SparkSession, by: Fold[Any], says: str):
    frame = spark.createDataFrame([], SCHEMA).selectExpr("*", "value / 2.0D AS ratio")
    with pytest.raises(ConfigError, match=says):
        fold(frame, by)


def test_keys_of_several_columns_do_not_run_together(spark: SparkSession):
    class Pairs(Fold[tuple[int]]):
        key, time = ("a", "b", "c"), "at"
        state, output = "n BIGINT", "a STRING, b BIGINT, c TIMESTAMP, n BIGINT"

        def zero(self) -> tuple[int]:
            return (0,)

        def step(self, state: tuple[int], row: Any) -> Any:
            return (state[0] + 1,), [(row.a, row.b, row.c, state[0] + 1)]

    moment = BEGIN.replace(tzinfo=None)
    values = [
        ("1:", 1, moment),
        ("1", 11, moment),
        ("1:", 1, moment + MINUTE / 60_000_000),
        ("1", 11, moment),
    ]
    lines = [(*value, moment + n * MINUTE) for n, value in enumerate(values)]
    frame = spark.createDataFrame(lines, "a STRING, b BIGINT, c TIMESTAMP, at TIMESTAMP")
    assert [row["n"] for row in fold(frame, Pairs()).orderBy("a", "b", "c", "n").collect()] == [1, 2, 1, 1]
