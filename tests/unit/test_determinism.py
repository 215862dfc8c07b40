"""What validate can see of code that cannot be repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.config.determinism import in_sql, suspects
from tidemill.model import Pipeline

HEAD = """\
import random
import time as clock
import uuid
from datetime import date, datetime
import datetime as dt
from pyspark.sql import functions as F
from pyspark.sql.functions import rand, col
"""
FIRST_LINE = HEAD.count("\n") + 2


def pipeline(*transform: object) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "clicks",
            "source": {"files": {"path": "in", "format": "json", "schema": "at TIMESTAMP"}},
            "event_time": {"column": "at"},
            "interval": "day",
            "transform": list(transform),
            "sink": {"delta": {"path": "out"}},
        }
    )


def found_in(root: Path, body: str, head: str = HEAD) -> list[tuple[int, str]]:
    (root / "jobs").mkdir(exist_ok=True)
    (root / "jobs" / "t.py").write_text(f"{head}def t(events):\n    {body}\n")
    return [(each.line, each.call) for each in suspects(pipeline("jobs.t:t"), str(root))]


@pytest.mark.parametrize(
    ("body", "call"),
    [
        ("return events.select(F.rand())", "F.rand"),
        ("return events.select(F.randn(7))", "F.randn"),
        ("return events.select(rand())", "rand"),
        ("return events.select(F.uuid())", "F.uuid"),
        ("return events.select(F.current_timestamp())", "F.current_timestamp"),
        ("return events.select(F.current_date())", "F.current_date"),
        ("return events.select(F.now())", "F.now"),
        ("return events.select(F.monotonically_increasing_id())", "F.monotonically_increasing_id"),
        ("return events.select(F.shuffle('a'))", "F.shuffle"),
        ("return events.groupBy('k').agg(F.first('v'))", "F.first"),
        ("return events.groupBy('k').agg(F.last('v'))", "F.last"),
        ("return events.groupBy('k').agg(F.any_value('v'))", "F.any_value"),
        ("return events.where(col('at') < datetime.now())", "datetime.now"),
        ("return events.where(col('at') < dt.datetime.utcnow())", "dt.datetime.utcnow"),
        ("return events.where(col('at') < date.today())", "date.today"),
        ("return events.where(col('at') < clock.time())", "clock.time"),
        ("return events.limit(random.randint(1, 2))", "random.randint"),
        ("return events.select(F.udf(lambda: str(uuid.uuid4()))())", "uuid.uuid4"),
        ("return events.selectExpr('rand() AS r')", "rand() in SQL"),
        ("return events.select(F.expr('current_timestamp'))", "current_timestamp() in SQL"),
    ],
)
def test_what_cannot_be_repeated_is_named_with_its_line(tmp_path: Path, body: str, call: str):
    assert found_in(tmp_path, body) == [(FIRST_LINE, call)]


@pytest.mark.parametrize(
    "body",
    [
        "return events.groupBy('k').agg(F.min('v'), F.max_by('v', 'at'))",
        "return events.select(F.first('v').over(w))",
        "return events.select(F.to_timestamp('random'), F.lit('rand()'))",
        "return events.select(events.random, events.now)",
        "return events.withColumn('first', F.col('last'))",
        "return events.where(col('at') < datetime(2013, 1, 1))",
        "return events.selectExpr('first(a) OVER (PARTITION BY k ORDER BY at) AS a')",
    ],
)
def test_what_can_be_repeated_is_left_alone(tmp_path: Path, body: str):
    assert found_in(tmp_path, body) == []


def test_a_name_of_ones_own_is_not_sparks(tmp_path: Path):
    head = "from pyspark.sql.functions import *\n\ndef rand():\n    return 4\n\n"

    assert found_in(tmp_path, "return events.limit(rand())", head) == []


def test_a_star_import_hides_nothing(tmp_path: Path):
    head = "from pyspark.sql.functions import *\n"

    assert found_in(tmp_path, "return events.select(rand())", head) == [(3, "rand")]


def test_what_a_transform_reaches_is_looked_into_and_nothing_else(tmp_path: Path):
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "t.py").write_text(
        "from jobs import more\nfrom .near import salt\nimport random\n"
        "def t(events):\n    return _inner(more.stamp(salt(events)))\n"
        "def _inner(events):\n    return events.limit(random.randint(1, 2))\n"
        "def unused():\n    return random.random()\n"
    )
    (jobs / "more.py").write_text("import time\nNOW = time.time()\ndef stamp(e):\n    return e.limit(NOW)\n")
    (jobs / "near.py").write_text(
        "from pyspark.sql import functions as F\ndef salt(e):\n    return e.select(F.rand())\n"
    )

    found = suspects(pipeline("jobs.t:t"), str(tmp_path))

    assert [each.where for each in found] == ["jobs/more.py:2", "jobs/near.py:3", "jobs/t.py:7"]
    assert all(each.next_step for each in found)


def test_sql_of_the_pipeline_file_is_looked_into():
    (found,) = suspects(pipeline({"sql": "SELECT *, uuid() AS id FROM events"}), "nowhere")

    assert (found.where, found.call) == ("clicks, step 1 (sql)", "uuid()")


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ("SELECT 'rand()' AS r -- now()", []),
        ("SELECT `uuid` FROM t WHERE t.now = 1", []),
        ("SELECT now(), RAND ( ) FROM t", ["now()", "rand()"]),
        ("SELECT unix_timestamp( ), unix_timestamp(at), now, `now()` FROM t", ["unix_timestamp()"]),
        (
            "at < TIMESTAMP 'now' AND day > date \"today\" AND word = 'now'",
            ["timestamp 'now'", 'date "today"'],
        ),
        ("SELECT first(a) FROM t GROUP BY b", ["first()"]),
        ("SELECT first(f(a)) IGNORE NULLS OVER w FROM t", []),
        ("SELECT first FROM t", []),
    ],
)
def test_sql(query: str, calls: list[str]):
    assert [call for call, _ in in_sql(query)] == calls


def test_a_fold_that_reads_the_clock_is_seen_where_it_does(tmp_path: Path):
    head = HEAD + (
        "from tidemill.folds import Fold, fold\n"
        "class Ages(Fold):\n"
        "    def step(self, state, row):\n"
        "        return state, [(row.key, datetime.now() - row.at)]\n"
    )
    assert found_in(tmp_path, "return fold(events, Ages())", head) == [(HEAD.count("\n") + 4, "datetime.now")]


def test_columns_of_a_fold_that_are_a_text_are_seen(tmp_path: Path):
    head = """\
from tidemill.folds import Fold, fold

class Tally(Fold[tuple[int]]):
    key, time = ("user",), "at"
    order_by = "id"

class Mine(Tally):
    key = "user"

class Other:
    key = "user"

"""
    body = "Other()\n    return fold(events, Mine())"
    assert found_in(tmp_path, body, head) == [(5, "order_by = 'id'"), (8, "key = 'user'")]
