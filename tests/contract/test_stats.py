"""The statistics that tidemill writes are ones Spark skips by, and never skips too much by; and tables that
tidemill, Spark and deltalake write in turn hold the same rows to each of them.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from tidemill.ledger import log
from tidemill.ledger.facts import Commit, Foreign, LiveBatch, Rearranged, Undo
from tidemill.model import Pipeline
from tidemill.sinks import stage
from tidemill.sinks.files import DataFile
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.rows import stage_rows
from tidemill.sinks.stats import MAX_TEXT
from tidemill.sinks.table import AppVersion, LogTable

pytestmark = pytest.mark.spark


def pipeline(path: Path, grain: str = "day") -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "p",
            "source": {"delta": {"path": "in"}},
            "event_time": {"column": "at"},
            "interval": grain,
            "sink": {"delta": {"path": str(path)}},
        }
    )


def written(frame: DataFrame, one: Pipeline, app: str) -> tuple[DataFile, ...]:
    """Stage a frame and publish it, as a live batch does."""
    table = LogTable.create(one.table.path, one.grain, stage.table_schema(frame, one))
    files = stage_rows(table, frame, one)
    publish(table, Change(files, (), Undo("p", app, 0, {}), AppVersion(app, 1)))
    return files


def commits(one: Pipeline, after: int) -> list[Commit]:
    commits = log.commits_after(one.table.path, after, one.grain)
    return [commit for commit in commits if commit.fact != Rearranged()]


# ---- skipping

TAIL = "m" * MAX_TEXT
TOP = "\U0010ffff"


@dataclass(frozen=True)
class Column:
    """Values in three files as ``(rank, literal)``: the rank is the place among all values, worked out by hand.

    ``skips``: pairs of files where a search for the first value of one must skip the other.
    """

    kind: str
    files: tuple[list[tuple[int, str]], list[tuple[int, str]], list[tuple[int, str]]]
    skips: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))


def plain(kind: str, *files: list[str], **more: Any) -> Column:
    """Literals in ascending order."""
    places = iter(range(100))
    one, two, three = [[(next(places), literal) for literal in file] for file in files]
    return Column(kind, (one, two, three), **more)


def texts(*values: str) -> list[str]:
    return [f"'{value}'" for value in values]


def moments(kind: str, *values: str) -> list[str]:
    return [f"{kind} '{value}'" for value in values]


COLUMNS = {
    "c_byte": plain("BYTE", ["-128Y", "-1Y"], ["0Y", "1Y"], ["126Y", "127Y"]),
    "c_short": plain("SHORT", ["-32768S"], ["0S", "1S"], ["32767S"]),
    "c_int": plain("INT", ["-2147483648", "-1"], ["0", "1"], ["2147483647"]),
    "c_long": plain(
        "BIGINT", ["-9223372036854775808", "-1"], ["9007199254740992"], ["9007199254740993", "9223372036854775807"]
    ),
    # A file with an infinity or a NaN has no bounds, and is never skipped.
    "c_float": Column(
        "FLOAT",
        (
            [(1, "float('-1.5')"), (2, "float('-0.0')"), (2, "float('0.0')")],
            [(3, "float('0.1')"), (4, "float('2.5')")],
            [(0, "float('-Infinity')"), (5, "float('Infinity')"), (6, "float('NaN')")],
        ),
        skips=((0, 1), (1, 0), (2, 0), (2, 1)),
    ),
    "c_double": Column(
        "DOUBLE",
        (
            [(1, "-1.5D"), (2, "-0.0D"), (2, "0.0D")],
            [(3, "0.1D"), (4, "1.7976931348623157E308D")],
            [(5, "double('Infinity')"), (6, "double('NaN')")],
        ),
        skips=((0, 1), (1, 0), (2, 0), (2, 1)),
    ),
    "c_nan": Column(
        "DOUBLE",
        ([(0, "1D"), (3, "double('NaN')")], [(1, "2D")], [(2, "3D")]),
        skips=((0, 1), (0, 2), (1, 2), (2, 1)),
    ),
    "c_price": plain("DECIMAL(10,2)", ["-99999999.99BD", "0.00BD"], ["0.01BD"], ["0.02BD", "99999999.99BD"]),
    # They differ in the last of 38 digits.
    "c_exact": plain(
        "DECIMAL(38,10)",
        ["1234567890123456789012345678.0123456788BD"],
        ["1234567890123456789012345678.0123456789BD"],
        ["1234567890123456789012345678.0123456790BD"],
    ),
    "c_text": plain(
        "STRING",
        texts("", " ", "A"),
        texts("a", "decimal:1", "é" * 100, "日本" * 50),
        texts("\uffff", "😀", "😀" * 70, TOP),
    ),
    # Beyond the cut all of them are alike; the last cannot be bounded above, and its file is never skipped.
    "c_long_text": plain(
        "STRING",
        texts("a", TAIL, TAIL + "a"),
        texts(TAIL + "b", TAIL + "z"),
        texts(TOP * MAX_TEXT + "a", TOP * (MAX_TEXT + 1)),
        skips=((0, 1), (2, 0), (2, 1)),
    ),
    "c_bool": Column("BOOLEAN", ([(0, "false")], [(1, "true")], [(0, "false"), (1, "true")]), skips=()),
    "c_binary": plain("BINARY", ["X''", "X'00'"], ["X'7F'"], ["X'FF'"], skips=()),
    "c_date": plain("DATE", moments("DATE", "0001-01-01", "1969-12-31"), moments("DATE", "1970-01-01", "2013-01-05"), moments("DATE", "2013-01-06", "9999-12-31")),
    # Bounds are whole milliseconds; an upper one is rounded up here, and by one more where Spark reads it.
    "c_time": plain(
        "TIMESTAMP",
        moments("TIMESTAMP", "1883-11-18 12:03:57.000001Z", "1969-12-31 23:59:59.999999Z"),
        moments("TIMESTAMP", "1970-01-01 00:00:00.002Z", "2013-01-05 12:00:00.123456Z"),
        moments("TIMESTAMP", "2013-01-05 12:00:00.126Z", "2013-01-05 12:00:00.126001Z"),
    ),
    # Within one millisecond files cannot be told apart, and none may be skipped.
    "c_close": plain(
        "TIMESTAMP",
        moments("TIMESTAMP", "1969-12-31 23:59:59.999001Z"),
        moments("TIMESTAMP", "1969-12-31 23:59:59.999002Z"),
        moments("TIMESTAMP", "9999-12-31 23:59:59.999999Z"),
        skips=((2, 0), (2, 1)),
    ),
    "c_local": plain(
        "TIMESTAMP_NTZ",
        moments("TIMESTAMP_NTZ", "0871-01-01 00:00:00", "1969-12-31 23:59:59.999999"),
        moments("TIMESTAMP_NTZ", "1970-01-01 00:00:00.002", "2013-03-10 02:30:00.000001"),
        moments("TIMESTAMP_NTZ", "2013-03-10 02:30:00.003", "2100-01-01 00:00:00"),
    ),
    "c_struct.a": plain("INT", ["1"], ["5"], ["9"]),
    "c_struct.b.c": plain("STRING", texts("x"), texts("y"), texts("z")),
}  # fmt: skip
NULLS = ("NULL", "5", "7")  # all of the first file, none of the second, some of the third


def row(number: int, file: int, place: int) -> str:
    """One row as a query; a value is null where the column has fewer than ``place`` values in the file."""

    def value(name: str) -> str:
        column = COLUMNS[name]
        literals = [literal for _, literal in column.files[file]]
        return f"CAST({literals[place] if place < len(literals) else 'NULL'} AS {column.kind})"

    parts = [f"{number}L AS id", "TIMESTAMP '2013-01-05 10:00:00Z' AS at"]
    parts += [f"{value(name)} AS {name}" for name in COLUMNS if "." not in name]
    inner = f"named_struct('c', {value('c_struct.b.c')})"
    parts.append(f"named_struct('a', {value('c_struct.a')}, 'b', {inner}) AS c_struct")
    parts.append("array(1, 2) AS c_array" if place else "CAST(NULL AS ARRAY<INT>) AS c_array")
    parts.append(f"map('k', {file}) AS c_map")
    null = "NULL" if file == 2 and place else NULLS[file]
    parts.append(f"CAST({null} AS BIGINT) AS c_null")
    return f"SELECT {', '.join(parts)}"


PLACES = 5


def number(file: int, place: int) -> int:
    return 10 * file + place


@pytest.fixture(scope="module")
def table(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """A table of three files, and their names in order."""
    one = pipeline(tmp_path_factory.mktemp("stats") / "t")
    names = []
    for file in range(3):
        query = " UNION ALL ".join(row(number(file, place), file, place) for place in range(PLACES))
        (data,) = written(spark.sql(query).coalesce(1), one, f"file-{file}")
        names.append(Path(data.path).name)
    return one.table.path, names


def searched(spark: SparkSession, table: tuple[str, list[str]], condition: str) -> tuple[set[int], set[int]]:
    """The ids that a search finds, and the files it looks into."""
    path, names = table
    frame = spark.read.format("delta").load(path).where(condition).select("id")
    return {found.id for found in frame.collect()}, {names.index(Path(f).name) for f in frame.inputFiles()}


HOLDS: dict[str, Callable[[int, int], bool]] = {"=": operator.eq, "<": operator.lt, ">": operator.gt}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_search_finds_every_row_and_skips_files_without_any(
    spark: SparkSession, table: tuple[str, list[str]], name: str
):
    column = COLUMNS[name]
    values = [
        (number(file, place), rank)
        for file, literals in enumerate(column.files)
        for place, (rank, _) in enumerate(literals)
    ]
    for file, literals in enumerate(column.files):
        for (rank, literal), signs in ((literals[0], "=<>"), (literals[-1], "=")):
            for sign in signs:
                expected = {found for found, other in values if HOLDS[sign](other, rank)}
                found, looked = searched(spark, table, f"{name} {sign} CAST({literal} AS {column.kind})")

                assert found == expected, (name, sign, literal)
                assert {each // 10 for each in expected} <= looked
                if sign == "=" and literal == literals[0][1]:
                    assert not [other for mine, other in column.skips if mine == file and other in looked]

    nulls = {number(file, place) for file in range(3) for place in range(PLACES)} - {
        found for found, _ in values
    }
    assert searched(spark, table, f"{name} IS NULL")[0] == nulls
    assert searched(spark, table, f"{name} IS NOT NULL")[0] == {found for found, _ in values}


def test_files_without_nulls_and_files_of_nulls_alone_are_skipped(
    spark: SparkSession, table: tuple[str, list[str]]
):
    first, second, third = ({number(file, place) for place in range(PLACES)} for file in range(3))

    assert searched(spark, table, "c_null IS NULL") == (first | third - {20}, {0, 2})
    assert searched(spark, table, "c_null IS NOT NULL") == (second | {20}, {1, 2})
    assert searched(spark, table, "c_null = 5") == (second, {1})
    assert searched(spark, table, "c_null > 5") == ({20}, {2})


def test_arrays_and_maps_are_searched_whole(spark: SparkSession, table: tuple[str, list[str]]):
    assert searched(spark, table, "c_map['k'] = 1")[0] == {number(1, place) for place in range(PLACES)}
    assert searched(spark, table, "c_array IS NULL")[0] == {0, 10, 20}
    assert len(searched(spark, table, "array_contains(c_array, 2)")[0]) == 12


def test_what_spark_says_of_a_file_is_not_narrower_than_what_we_say(
    spark: SparkSession, table: tuple[str, list[str]], tmp_path: Path
):
    """Spark's own writer on the same rows: where both have a bound, ours is as wide or wider."""
    path = table[0]
    spark.read.format("delta").load(path).coalesce(1).write.format("delta").save(str(tmp_path / "theirs"))

    theirs = _stats(tmp_path / "theirs")[0]
    for ours in _stats(Path(path)):
        assert ours["numRecords"] == PLACES
        assert set(ours["minValues"]) <= set(theirs["minValues"])
    compared = 0
    for key, least in theirs["minValues"].items():
        bounds = [ours["minValues"].get(key) for ours in _stats(Path(path))]
        if not isinstance(least, dict) and None not in bounds:
            assert min(bounds) <= least, key
            compared += 1
    assert compared >= 8


def _stats(path: Path) -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for commit in sorted((path / "_delta_log").glob("*.json"))
        for line in commit.read_text().splitlines()
    ]
    return [json.loads(line["add"]["stats"]) for line in lines if "add" in line]


def test_only_the_first_columns_of_a_wide_table_have_statistics(spark: SparkSession, tmp_path: Path):
    one = pipeline(tmp_path / "t")
    names = []
    for file in range(2):
        columns = ", ".join(f"{file * 100 + i} AS c{i}" for i in range(40))
        query = f"SELECT {file}L AS id, TIMESTAMP '2013-01-05 10:00:00Z' AS at, {columns}"
        names.append(Path(written(spark.sql(query), one, str(file))[0].path).name)
    wide = (one.table.path, names)

    assert searched(spark, wide, "c0 = 100") == ({1}, {1})
    assert searched(spark, wide, "c29 = 29") == ({0}, {0})
    assert searched(spark, wide, "c30 = 30") == ({0}, {0, 1})
    assert searched(spark, wide, "c39 = 139") == ({1}, {0, 1})


def test_names_with_dots_blanks_and_quotes_do_not_mislead(spark: SparkSession, tmp_path: Path):
    one = pipeline(tmp_path / "t")
    names = []
    for file in range(2):
        a = (1, 9)[file]
        query = (
            f"SELECT {file}L AS id, TIMESTAMP '2013-01-05 10:00:00Z' AS at, named_struct('b', {a}) AS a, "
            f"'x\"\\u0000decimal:{file}' AS odd"
        )
        frame = spark.sql(query).withColumnRenamed("odd", "o_d'd")
        names.append(Path(written(frame, one, str(file))[0].path).name)
    odd = (one.table.path, names)

    assert searched(spark, odd, "a.b = 1") == ({0}, {0})
    assert searched(spark, odd, "`o_d'd` = 'x\"\\u0000decimal:1'") == ({1}, {1})
    assert DeltaTable(one.table.path).get_add_actions().num_rows == 2


# ---- the same rows to each reader, at every grain


def hours(spark: SparkSession, *moments: str) -> DataFrame:
    rows = ", ".join(f"({number}L, TIMESTAMP '{moment}Z')" for number, moment in enumerate(moments))
    return spark.sql(f"SELECT * FROM VALUES {rows} AS t(id, at)")


MOMENTS = ("2013-01-05 12:59:59.999999", "2013-01-05 13:00:00", "2013-01-31 23:30:00", "2013-02-01 00:00:00")
PARTITIONS: dict[str, list[Any]] = {
    "hour": [datetime(2013, *rest, tzinfo=UTC) for rest in ((1, 5, 12), (1, 5, 13), (1, 31, 23), (2, 1, 0))],
    "day": [date(2013, 1, 5), date(2013, 1, 5), date(2013, 1, 31), date(2013, 2, 1)],
    "month": [date(2013, 1, 1), date(2013, 1, 1), date(2013, 1, 1), date(2013, 2, 1)],
}
LABELS = {
    "hour": ["2013-01-05T12", "2013-01-05T13", "2013-01-31T23", "2013-02-01T00"],
    "day": ["2013-01-05", "2013-01-31", "2013-02-01"],
    "month": ["2013-01", "2013-02"],
}
SEARCHES = {
    "hour": ("event_hour = TIMESTAMP '2013-01-05 13:00:00Z'", {1}),
    "day": ("event_date = DATE '2013-01-05'", {0, 1}),
    "month": ("event_month = DATE '2013-01-01'", {0, 1, 2}),
}


def as_spark_reads(spark: SparkSession, one: Pipeline) -> list[tuple[int, Any]]:
    frame = spark.read.format("delta").load(one.table.path).orderBy("id").toArrow()
    return list(zip(frame["id"].to_pylist(), frame[one.partition_column].to_pylist(), strict=True))


def as_deltalake_reads(one: Pipeline) -> list[tuple[int, Any]]:
    frame = DeltaTable(one.table.path).to_pyarrow_table().sort_by("id")
    return list(zip(frame["id"].to_pylist(), frame[one.partition_column].to_pylist(), strict=True))


@pytest.mark.parametrize("grain", ["hour", "day", "month"])
def test_a_table_reads_alike_in_spark_and_deltalake_whoever_writes(
    spark: SparkSession, tmp_path: Path, grain: str
):
    one = pipeline(tmp_path / "t", grain)
    files = written(hours(spark, *MOMENTS), one, "first")
    expected = list(enumerate(PARTITIONS[grain]))

    assert sorted({file.label for file in files}) == LABELS[grain]
    assert as_spark_reads(spark, one) == expected
    assert as_deltalake_reads(one) == expected
    condition, found = SEARCHES[grain]
    frame = spark.read.format("delta").load(one.table.path).where(condition)
    assert {each.id for each in frame.collect()} == found
    assert len(frame.inputFiles()) < len(files) or grain == "month"

    # Spark's own writer appends to it: a stranger, whose intervals the ledger names.
    again = hours(spark, *MOMENTS).selectExpr("id + 10 AS id", "at")
    value = {
        "hour": "date_trunc('HOUR', at)",
        "day": "to_date(at)",
        "month": "to_date(date_trunc('MONTH', at))",
    }
    again.selectExpr("*", f"{value[grain]} AS {one.partition_column}").write.format("delta").mode(
        "append"
    ).save(one.table.path)
    both = expected + [(id_ + 10, part) for id_, part in expected]
    assert as_spark_reads(spark, one) == both
    assert as_deltalake_reads(one) == both
    assert [c.fact for c in commits(one, 1)] == [Foreign("WRITE", tuple(LABELS[grain]), replaced=False)]

    # The table's own side: files by both hands, by interval, replaced by a swap.
    mine = LogTable(one.table.path, one.grain)
    last = [file for file in mine.live_files().values() if file.label == LABELS[grain][-1]]
    assert len(last) == 2
    assert mine.lost(last) == []
    assert {row.id for row in mine.read(spark, last, hours(spark, MOMENTS[0]).schema).collect()} == {3, 13}
    fresh = stage_rows(mine, hours(spark, *MOMENTS).where("id = 3"), one)
    publish(mine, Change(fresh, tuple(last), Undo("p", "swap", 0, {}), AppVersion("swap", 1)))
    assert as_spark_reads(spark, one) == both[:-1]
    assert as_deltalake_reads(one) == both[:-1]


def test_sparks_merge_delete_and_optimize_work_on_the_table_and_the_ledger_knows_them(
    spark: SparkSession, tmp_path: Path
):
    one = pipeline(tmp_path / "t")
    for app in ("a", "b"):
        written(hours(spark, *MOMENTS), one, app)
    name = f"delta.`{one.table.path}`"

    spark.sql(f"OPTIMIZE {name}")
    assert commits(one, 2) == []
    assert len(as_spark_reads(spark, one)) == 8

    spark.sql(
        f"MERGE INTO {name} t USING (SELECT 3L AS id) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET at = at"
    )
    spark.sql(f"DELETE FROM {name} WHERE id = 0")
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('note' = 'seen')")

    facts = [commit.fact for commit in commits(one, 2)]
    assert facts == [Foreign("MERGE", ("2013-02-01",)), Foreign("DELETE", ("2013-01-05",))]
    assert [id_ for id_, _ in as_deltalake_reads(one)] == [1, 1, 2, 2, 3, 3]

    # And tidemill goes on writing after them, with its own transactions intact.
    mine = LogTable(one.table.path, one.grain)
    assert mine.app_version("a") == 1
    assert not publish(mine, Change((), (), Undo("p", "c", 0, {}), AppVersion("c", 1))).already
    assert publish(mine, Change((), (), Undo("p", "a", 0, {}), AppVersion("a", 1))).already


def test_spark_honours_the_transactions_of_deltalakes_commits(spark: SparkSession, tmp_path: Path):
    one = pipeline(tmp_path / "t")
    written(hours(spark, *MOMENTS), one, "a")

    again = (
        hours(spark, *MOMENTS)
        .selectExpr("*", "to_date(at) AS event_date")
        .write.format("delta")
        .mode("append")
    )
    again.option("txnAppId", "a").option("txnVersion", 1).save(one.table.path)
    assert len(as_spark_reads(spark, one)) == 4

    again.option("txnAppId", "a").option("txnVersion", 2).save(one.table.path)
    assert len(as_spark_reads(spark, one)) == 8


def test_spark_reads_a_table_from_deltalakes_checkpoint(spark: SparkSession, tmp_path: Path):
    one = pipeline(tmp_path / "t", "hour")
    written(hours(spark, *MOMENTS), one, "a")
    written(hours(spark, *MOMENTS[:1]), one, "b")
    DeltaTable(one.table.path).create_checkpoint()
    for version in (0, 1):
        Path(one.table.path, "_delta_log", f"{version:020d}.json").unlink()

    assert len(as_spark_reads(spark, one)) == 5
    found = spark.read.format("delta").load(one.table.path).where("at = TIMESTAMP '2013-02-01 00:00:00Z'")
    assert [each.id for each in found.collect()] == [3]
    assert len(found.inputFiles()) == 1


def test_the_fact_is_in_sparks_history_of_the_table(spark: SparkSession, tmp_path: Path):
    one = pipeline(tmp_path / "t")
    frame = hours(spark, *MOMENTS)
    table = LogTable.create(one.table.path, one.grain, stage.table_schema(frame, one))
    fact = LiveBatch("p", "r", "f", "q", 0, {}, {}, False, added={"2013-01-05": 2})
    publish(table, Change(stage_rows(table, frame, one), (), fact, AppVersion("q", 0)))

    (newest,) = spark.sql(f"DESCRIBE HISTORY delta.`{one.table.path}` LIMIT 1").collect()

    assert json.loads(newest.userMetadata)["added"] == {"2013-01-05": 2}
    assert [commit.fact for commit in commits(one, 0)] == [fact]
