"""Bad input gets a clear error or the quarantine, and nothing is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from tests.feed import Folder
from tidemill import SourceError, TransformError
from tidemill.cli.app import app
from tidemill.cli.shell import Hands
from tidemill.errors import PlanError
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request

pytestmark = pytest.mark.spark


def as_they_come(events: DataFrame) -> DataFrame:
    """The plain pipeline."""
    return events


class Feed(Folder):
    """The pipeline with a transform in Python; files are bytes."""

    def __init__(
        self, root: Path, spark: SparkSession, code: Callable[[DataFrame], Any] = as_they_come
    ) -> None:
        super().__init__(root, spark, transform=code)

    def use(self, transform: Callable[[DataFrame], Any], **more: Any) -> None:
        super().use(transform=transform, **more)

    def put(self, content: bytes, suffix: str = "json", name: str = "") -> Path:
        return self.land(content, suffix, name)


def lines(*ids: int) -> bytes:
    return "\n".join(
        json.dumps({"id": i, "at": f"2024-05-01T{i % 24:02}:00:00Z", "v": i}) for i in ids
    ).encode()


def test_half_a_line_a_wrong_type_and_a_missing_time_are_quarantined_with_their_reason(
    tmp_path: Path, spark: SparkSession
) -> None:
    feed = Feed(tmp_path, spark)
    bad = b'\n{"id": 7, "at": "2024-05\n{"id": 8, "v": 1}\n{"id": 9, "at": "2024-05-01T00:00:00Z", "v": "nine"}\n'
    path = feed.put(lines(1, 2) + bad + lines(3))
    feed.put(lines(4))
    assert feed.run() is None
    assert feed.ids() == [1, 2, 3, 4]
    found = {row["record"]: row["reasons"] for row in feed.quarantine()}
    assert found == {
        '{"id": 7, "at": "2024-05': ["not a record of the schema"],
        '{"id":8,"v":1}': ["no event time (at)"],
        '{"id": 9, "at": "2024-05-01T00:00:00Z", "v": "nine"}': ["not a record of the schema"],
    }
    assert {row["file"].rpartition("/")[2] for row in feed.quarantine()} == {path.name}
    coverage = feed.engine.view("feed").coverage
    assert (coverage.input_rows, coverage.quarantined) == (7, 3)
    assert feed.engine.verify("feed").holds


def test_a_missing_field_that_is_not_the_time_is_null(tmp_path: Path, spark: SparkSession) -> None:
    feed = Feed(tmp_path, spark)
    feed.put(b'{"id": 1, "at": "2024-05-01T00:00:00Z"}')
    assert feed.run() is None
    assert feed.ids() == [1]
    assert feed.quarantine() == []


def test_a_poisoned_time_does_not_move_the_watermark(tmp_path: Path, spark: SparkSession) -> None:
    def counted(events: DataFrame) -> DataFrame:
        hours = events.groupBy(F.window("at", "1 hour")).count()
        return hours.select(F.col("window.start").alias("hour"), F.col("count").cast("int").alias("id"))

    feed = Feed(tmp_path, spark)
    feed.use(
        counted,
        event_time={"column": "at", "watermark": "1 hour"},
        interval={"grain": "day", "column": "hour"},
    )
    feed.put(b'{"id": 1, "at": "+19999-01-01T00:00:00Z"}\n' + lines(1))
    feed.put(lines(2))
    feed.put(lines(2, 9))
    assert feed.run() is None
    assert [row["reasons"] for row in feed.quarantine()] in (
        [["event time out of range (at)"]],
        [["not a record of the schema"]],
    )
    assert feed.ids() == [1, 2]


def test_a_transform_that_raises_while_it_is_built_is_named(tmp_path: Path, spark: SparkSession) -> None:
    def broken(events: DataFrame) -> DataFrame:
        return events.select("nonsense")

    feed = Feed(tmp_path, spark, broken)
    feed.put(lines(1))
    error = feed.run()
    assert isinstance(error, TransformError)
    assert "broken" in error.params["step"]
    feed.use(as_they_come)
    assert feed.run() is None
    assert feed.ids() == [1]


def test_a_transform_that_raises_on_a_row_publishes_nothing_of_the_batch(
    tmp_path: Path, spark: SparkSession
) -> None:
    def fragile(events: DataFrame) -> DataFrame:
        return events.withColumn(
            "v", F.when(F.col("id") == 2, F.raise_error(F.lit("no twos"))).otherwise(F.col("v"))
        )

    feed = Feed(tmp_path, spark, fragile)
    feed.put(lines(1))
    feed.put(lines(2, 3))
    error = feed.run()
    assert isinstance(error, TransformError)
    assert "no twos" in error.message
    assert feed.ids() == [1]
    feed.use(as_they_come)
    assert feed.run() is None
    assert feed.ids() == [1, 2, 3]


def divided(events: DataFrame) -> DataFrame:
    return events.withColumn("v", F.lit(1) / F.col("id"))


def divided_in_python(events: DataFrame) -> DataFrame:
    return events.withColumn("v", F.udf("int")(lambda id_: 1 // id_)("id"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (divided, r"DIVIDE_BY_ZERO.*\(from .*/test_bad_input\.py:{line}\)"),
        (divided_in_python, r"ZeroDivisionError: .* \(from .*/test_bad_input\.py:{line}\)"),
    ],
)
def test_what_is_raised_on_a_row_is_said_with_the_line_of_the_code(
    tmp_path: Path, spark: SparkSession, code: Callable[[DataFrame], DataFrame], words: str
) -> None:
    feed = Feed(tmp_path, spark, code)
    feed.put(lines(0))
    error = feed.run()
    assert isinstance(error, TransformError)
    line = code.__code__.co_firstlineno + 1
    assert re.search(words.format(line=line), error.message, re.DOTALL)


def test_a_transform_that_returns_no_frame_is_named(tmp_path: Path, spark: SparkSession) -> None:
    feed = Feed(tmp_path, spark, lambda _events: None)
    feed.put(lines(1))
    error = feed.run()
    assert isinstance(error, TransformError)
    assert "NoneType" in error.message


def test_an_interval_outside_the_data_is_refused_with_what_there_is(
    tmp_path: Path, spark: SparkSession
) -> None:
    feed = Feed(tmp_path, spark)
    feed.put(lines(1))
    assert feed.run() is None
    with pytest.raises(PlanError, match="2024-05-01"):
        feed.engine.plan("feed", Request.between("2030-01-01", "2030-01-02"))


def test_of_a_pipeline_without_a_stream_the_quarantine_is_what_its_backfills_left_out(
    tmp_path: Path, spark: SparkSession
) -> None:
    feed = Feed(tmp_path, spark)
    feed.put(lines(1, 2) + b'\n{"id": 7, "at": "2024-05\n{"id": 8, "v": 1}\n')
    day = Request.between("2024-05-01", "2024-05-02")
    assert feed.engine.backfill("feed", day).quarantined == 2
    found = {row["record"]: row["reasons"] for row in feed.quarantine()}
    assert found == {
        '{"id": 7, "at": "2024-05': ["not a record of the schema"],
        '{"id":8,"v":1}': ["no event time (at)"],
    }
    assert feed.ids() == [1, 2]
    assert feed.engine.view("feed").coverage.quarantined == 2
    first = feed.quarantine()
    assert feed.engine.backfill("feed", day).quarantined == 2
    assert feed.quarantine() == first
    feed.put(lines(3) + b"\nnonsense")
    # Later files make what was computed without them dirty.
    assert [each.state.value for each in feed.engine.view("feed").judged] == ["dirty"]
    assert feed.engine.backfill("feed", Request(states=frozenset({State.DIRTY}))).quarantined == 3
    assert feed.ids() == [1, 2, 3]
    assert sorted(row["record"] for row in feed.quarantine()) == sorted([*found, "nonsense"])
    assert feed.engine.verify("feed").holds


def test_history_reads_the_files_of_these_names_and_names_one_that_is_gone(
    tmp_path: Path, spark: SparkSession
) -> None:
    feed = Feed(tmp_path, spark)
    gone = feed.put(lines(1))
    feed.put(lines(2))
    assert feed.run() is None
    # Names that are no patterns: as one, the first means the second, and the others nothing.
    for number, name in enumerate(("e[1].json", "e1.json", "{a,b}.json", "x*y?.json", "b\\[c.json"), start=3):
        feed.put(lines(number), name=name)
    assert feed.run() is None
    assert feed.ids() == [1, 2, 3, 4, 5, 6, 7]
    assert feed.engine.verify("feed").holds
    gone.unlink()
    with pytest.raises(SourceError, match=f"{gone.name} was listed and is gone"):
        feed.engine.backfill("feed", Request.between("2024-05-01", "2024-05-02"))
    assert feed.ids() == [1, 2, 3, 4, 5, 6, 7]


FILES = {"path": "in", "format": "json", "schema": "id INT, at TIMESTAMP, v INT"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"files": FILES | {"path": "nowhere"}}, "the source folder .*/nowhere is not there"),
        ({"delta": {"path": "nowhere"}}, "the source table .*/nowhere is not there"),
    ],
    ids=["folder", "table"],
)
def test_an_input_that_is_not_there_is_said_by_its_name_whatever_asks_for_it(
    tmp_path: Path, spark: SparkSession, source: dict[str, Any], words: str
) -> None:
    feed = Feed(tmp_path, spark)
    feed.use(as_they_come, source=source)

    error = feed.run()
    assert isinstance(error, SourceError)
    assert re.search(words, error.message)
    assert "or correct source." in error.next_step
    for asks in (
        lambda: feed.engine.plan("feed"),
        lambda: feed.engine.backfill("feed", Request.between("2024-05-01", "2024-05-02")),
    ):
        with pytest.raises(SourceError, match=words):
            asks()


def test_a_static_input_that_is_not_there_is_said_by_its_name(tmp_path: Path, spark: SparkSession) -> None:
    feed = Feed(tmp_path, spark)
    feed.put(lines(1))
    names = {
        "files": {"path": "names.json", "format": "json", "schema": "id INT, name STRING"},
        "static": True,
    }
    feed.use(
        lambda events, names: events.join(names, "id"),
        sources={"events": {"files": FILES}, "names": names},
    )

    error = feed.run()
    assert isinstance(error, SourceError)
    assert re.search("/names.json, which the input names reads, is not there", error.message)
    (tmp_path / "names.json").write_text('{"id": 1, "name": "one"}')
    assert feed.run() is None
    assert feed.ids() == [1]


def counting_by_hand(events: DataFrame) -> DataFrame:
    def count(_key: Any, groups: Any, state: Any) -> Any:
        total = (state.get[0] if state.exists else 0) + sum(len(group) for group in groups)
        state.update((total,))
        yield from ()

    return events.groupBy("id").applyInPandasWithState(
        count, "id INT, at TIMESTAMP, v INT", "n INT", "append", "NoTimeout"
    )


def by_arrival(events: DataFrame) -> DataFrame:
    return events.dropDuplicates(["id"])


def by_arrival_for_a_while(events: DataFrame) -> DataFrame:
    return events.dropDuplicatesWithinWatermark(["id"])


def a_few(events: DataFrame) -> DataFrame:
    return events.limit(3)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (counting_by_hand, "custom state"),
        (by_arrival, "arrives first"),
        (by_arrival_for_a_while, "arrives first"),
        (a_few, "limits a stream"),
    ],
)
def test_what_depends_on_the_order_of_arrival_is_refused(
    tmp_path: Path, spark: SparkSession, code: Callable[[DataFrame], Any], words: str
) -> None:
    feed = Feed(tmp_path, spark)
    feed.use(code, event_time={"column": "at", "watermark": "1 hour"})
    feed.put(lines(1))
    error = feed.run()
    assert isinstance(error, PlanError)
    assert words in error.message
    assert error.next_step
    assert not (tmp_path / "table" / "_delta_log").exists()


def test_the_quarantine_is_listed_by_reason_with_the_newest_rows(tmp_path: Path, spark: SparkSession) -> None:
    feed = Feed(tmp_path, spark)
    assert feed.engine.quarantined("feed").rows == 0
    feed.put(lines(1) + b'\n{"id": 7, "at": "2024-05\n{"id": 8, "v": 1}\n')
    feed.put(b'{"id": 9, "v": 2}\n')
    assert feed.run() is None
    found = feed.engine.quarantined("feed", most=2)
    assert (found.rows, len(found.sample)) == (3, 2)
    assert [(each.reason, each.rows) for each in found.reasons] == [
        ("no event time (at)", 2),
        ("not a record of the schema", 1),
    ]
    assert '{"id":9,"v":2}' in {each.record for each in found.sample}
    some = feed.engine.quarantined("feed", reason="EVENT TIME", of_input="events")
    assert sorted(each.record or "" for each in some.sample) == ['{"id":8,"v":1}', '{"id":9,"v":2}']
    assert {each.batch for each in some.sample} == {0, 1}
    with pytest.raises(PlanError, match="other"):
        feed.engine.quarantined("feed", of_input="other")

    hands = Hands(engine=lambda *_args, **_options: feed.engine)
    told = CliRunner().invoke(
        app, ["quarantine", "feed", "--reason", "event time", "--sample", "1"], obj=hands
    )
    assert told.exit_code == 0, told.output
    assert "2 rows set aside" in told.output
    assert told.output.count("no event time (at)") == 2  # among the reasons, and with the row
