"""What a pipeline with a fold is refused for, and what a stream's stored states allow after a change."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import DataFrame, Row
from pyspark.sql.streaming import StatefulProcessor

from tidemill.config import Project, parse_pipeline
from tidemill.engine import Engine
from tidemill.errors import PlanError, StateError, TidemillError, TransformError
from tidemill.folds import Fold, fold
from tidemill.ledger.judge import NOT_CLEAN, State
from tidemill.planning.selection import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


class Counts(Fold[tuple[int]]):
    """How often a key was seen."""

    key, time, order_by = ("key",), "at", ("id",)
    state = "n INT"
    output = "key STRING, at TIMESTAMP, n BIGINT, problem STRING"
    horizon = "1 hour"
    buckets = 2

    def zero(self) -> Any:
        return (0,)

    def step(self, state: Any, row: Any) -> Any:
        if row.id == 666:
            msg = "the beast"
            raise ValueError(msg)
        return (state[0] + 1, *state[1:]), [(row.key, row.at, state[0] + 1, None)]


class Hasty(Counts):
    emit = "immediate"


class Loyal(Counts):
    once = "key"


class Lettered(Counts):
    key = "key"  # type: ignore[assignment]


class Boundless(Counts):
    horizon = None


class Careful(Counts):
    def failed(self, row: Any, error: Exception) -> Any:
        return [(row.key, row.at, None, str(error).splitlines()[0])]


class Wider(Careful):
    state = "seen BIGINT, more STRING"
    renamed = {"seen": "n"}  # noqa: RUF012  # as a project writes it

    def zero(self) -> Any:
        return (0, "new")


class Narrower(Careful):
    state = "seen SMALLINT, more STRING"
    renamed = Wider.renamed
    zero = Wider.zero


class Spread(Wider):
    buckets = 3


class Custom(StatefulProcessor):
    def init(self, handle: Any) -> None:
        self.handle = handle

    def handleInputRows(self, key: Any, rows: Any, timerValues: Any) -> Any:  # noqa: ARG002, N802, N803
        for _ in rows:
            yield Row(key=key[0])

    def close(self) -> None:
        """Nothing is open."""


def custom(events: DataFrame) -> DataFrame:
    return events.groupBy("key").transformWithState(Custom(), "key STRING", "append", "none")


def project(root: Path, spark: SparkSession, transform: Callable[..., DataFrame], **special: Any) -> Engine:
    values = {
        "name": "counts",
        "source": {
            "files": {
                "path": "in",
                "format": "json",
                "schema": "key STRING, at TIMESTAMP, id BIGINT",
                "max_files_per_batch": 1,
            }
        },
        "event_time": {"column": "at", "watermark": "10 minutes"},
        "interval": "day",
        "transform": transform,
        "lookback": "1h",
        "sink": {"delta": {"path": "tables/counts"}},
        "trigger": {"available_now": True},
        "quality": {
            "suite": {
                "name": "stepped",
                "expectations": [
                    {
                        "type": "expect_column_values_to_be_null",
                        "kwargs": {"column": "problem"},
                        "meta": {"action": "quarantine"},
                    }
                ],
            }
        },
        **special,
    }
    (root / "in").mkdir(exist_ok=True)
    return Engine(Project(str(root), {"counts": parse_pipeline(values, root)}), spark=spark)


def add(root: Path, name: str, *events: tuple[str | None, str, int]) -> None:
    lines = [json.dumps({"key": key, "at": f"2024-02-{at}:00Z", "id": number}) for key, at, number in events]
    (root / "in").mkdir(exist_ok=True)
    (root / "in" / f"{name}.json").write_text("\n".join(lines))


def failure(engine: Engine) -> TidemillError:
    (outcome,) = engine.run("counts")
    assert outcome.error is not None
    return outcome.error


@pytest.mark.parametrize(
    ("transform", "special", "says"),
    [
        (lambda e: fold(e, Counts()), {"lookback": "59m"}, "lookback is 59m, and the horizon of fold Counts is 1h"),
        (lambda e: fold(e, Boundless()), {}, "fold Boundless has no horizon, and gives rows of the interval that it steps"),
        (lambda e: fold(e, Loyal()), {}, "once is 'key', and emit is ordered"),
        (lambda e: fold(e, Lettered()), {}, "fold Lettered: key is the text 'key'\n  next: write key = ('key',)"),
        (lambda e: fold(e.distinct(), Counts()), {}, "has fold Counts and another step that keeps state"),
        (lambda e: fold(e, Counts()).unionByName(fold(e, Careful())), {}, "several folds"),
        (lambda e: custom(fold(e, Counts())).selectExpr("key", "timestamp'2024-02-28' AS at"), {}, "custom state"),
    ],
)  # fmt: skip
def test_what_would_not_hold_is_refused_before_anything_is_read(
    spark: SparkSession, tmp_path: Path, transform: Any, special: dict[str, Any], says: str
):
    engine = project(tmp_path, spark, transform, quality={}, **special)
    add(tmp_path, "1", ("a", "28T10:00", 1))
    said = failure(engine)
    assert says in str(said)
    assert said.message.startswith("counts: ")
    assert not (tmp_path / "tables").exists() or not list((tmp_path / "tables/counts").glob("*.parquet"))


def test_a_backfill_asks_for_the_same_lookback(spark: SparkSession, tmp_path: Path):
    engine = project(tmp_path, spark, lambda e: fold(e, Counts()), lookback="10m")
    add(tmp_path, "1", ("a", "28T10:00", 1))
    with pytest.raises(PlanError, match="say lookback: 1h"):
        engine.backfill(
            "counts", Request(start=datetime(2024, 2, 28, tzinfo=UTC), end=datetime(2024, 2, 29, tzinfo=UTC))
        )


def rows(root: Path, spark: SparkSession) -> list[tuple[Any, ...]]:
    frame = spark.read.format("delta").load(str(root / "tables/counts")).orderBy("at", "key")
    return [(r["key"], f"{r['at']:%dT%H:%M}", r["n"]) for r in frame.collect()]


def test_one_bad_key_stops_no_other_and_states_outlive_their_code(spark: SparkSession, tmp_path: Path):
    """A row is set aside with its reason; then the state is widened, renamed and gets a field, and goes on counting."""
    add(
        tmp_path,
        "1",
        ("a", "28T10:00", 1),
        ("bad", "28T10:01", 1),
        ("bad", "28T10:02", 666),
        ("a", "28T10:03", 2),
    )
    add(tmp_path, "2", ("bad", "28T10:04", 2), ("z", "28T10:30", 9), ("a", "28T10:31", 3))
    said = failure(project(tmp_path, spark, lambda e: fold(e, Counts())))
    assert isinstance(said, TransformError)
    assert (
        "fold Counts: step raised ValueError: the beast, for key key='bad', at at=2024-02-28T10:02:00"
        in str(said)
    )
    add(tmp_path, "3", (None, "28T10:35", 3), ("z", "28T10:50", 10))
    engine = project(tmp_path, spark, lambda e: fold(e, Careful()))
    assert [outcome.error for outcome in engine.run("counts")] == [None]
    first = [("a", "28T10:00", 1), ("bad", "28T10:01", 1), ("a", "28T10:03", 2), ("bad", "28T10:04", 2)]
    first += [("z", "28T10:30", 1), ("a", "28T10:31", 3)]
    assert rows(tmp_path, spark) == first
    aside = spark.read.format("delta").load(str(tmp_path / "tables/counts_quarantine")).collect()
    problems = sorted(json.loads(row["record"])["problem"] for row in aside)
    assert [text.partition(",")[0] for text in problems] == [
        "fold Careful: a column of the key is null", "fold Careful: step raised ValueError: the beast",
    ]  # fmt: skip
    narrow = failure(project(tmp_path, spark, lambda e: fold(e, Narrower())))
    assert isinstance(narrow, StateError)
    assert "fold Narrower: state: seen is int16, and what the stream has stored is int32" in str(narrow)
    add(tmp_path, "4", ("a", "28T11:00", 4), ("z", "28T12:30", 11))
    engine = project(tmp_path, spark, lambda e: fold(e, Wider()))
    assert [outcome.error for outcome in engine.run("counts")] == [None]
    after = [("z", "28T10:50", 2), ("a", "28T11:00", 4)]
    assert rows(tmp_path, spark) == first + after
    spread = failure(project(tmp_path, spark, lambda e: fold(e, Spread())))
    assert "the stream began with key key in 2 buckets, and now it is key in 3" in str(spread)
    # The rows are what today's code gives over all of it, in one go, too.
    engine.backfill("counts", Request(states=NOT_CLEAN, include_open=True))
    assert rows(tmp_path, spark) == [*first, *after, ("z", "28T12:30", 1)]
    assert engine.verify("counts").holds


@contextmanager
def what_the_jvm_says(spark: SparkSession) -> Iterator[Callable[[], str]]:
    """What comes to its stderr, as if no fold had run in it before."""
    jvm: Any = spark._jvm
    system, mark = jvm.java.lang.System, "tidemill.quiet"
    before, quiet = system.err, system.getProperty(mark)
    heard = jvm.java.io.ByteArrayOutputStream()
    system.setErr(jvm.java.io.PrintStream(heard, True))
    system.clearProperty(mark)
    try:
        yield lambda: str(heard.toString())
    finally:
        system.setErr(before)
        system.clearProperty(mark)
        if quiet is not None:
            system.setProperty(mark, quiet)


def test_what_an_immediate_fold_has_touched_is_dirty_until_it_is_recomputed(
    spark: SparkSession, tmp_path: Path
):
    add(tmp_path, "1", ("a", "28T10:30", 2))
    add(tmp_path, "2", ("a", "28T10:00", 1), ("a", "29T00:10", 3))
    engine = project(tmp_path, spark, lambda e: fold(e, Hasty()))
    with what_the_jvm_says(spark) as heard:
        assert [outcome.error for outcome in engine.run("counts")] == [None]
        # Not a word of Spark's own worker; of all that others say, all.
        assert heard() == ""
        said = "Starting Streaming TransformWithStateInPandas Python worker"
        others = f"Traceback: {said}\n\nStarts\nStreaming: 3\n\n\nwhat has no end"
        spark._jvm.java.lang.System.err.print(
            f"{said}.\n\n{said.removeprefix('Starting ')} received parameters\n\n{others}"
        )
        assert heard() == others
    # By arrival: 10:30 came first, and the last was there before the watermark had reached it.
    assert rows(tmp_path, spark) == [("a", "28T10:00", 2), ("a", "28T10:30", 1), ("a", "29T00:10", 1)]
    states = {row.interval: row.state for row in engine.coverage("counts").rows}
    assert State.CLEAN not in states.values()
    assert states["2024-02-28"] is State.DIRTY
    engine.backfill("counts", Request(states=NOT_CLEAN))
    assert rows(tmp_path, spark) == [("a", "28T10:00", 1), ("a", "28T10:30", 2), ("a", "29T00:10", 1)]
    assert engine.verify("counts").holds
