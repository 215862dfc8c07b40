"""Folds that never forget, in pipelines: rows, states at interval ends and backfills, against sums made by hand."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from tidemill.cli.app import app
from tidemill.cli.shell import Hands
from tidemill.clock import SystemClock
from tidemill.config import Project, parse_pipeline
from tidemill.engine import Engine
from tidemill.errors import PlanError, StateError, TidemillError, TransformError
from tidemill.execution.states_upkeep import StatesKept
from tidemill.folds import Fold, fold
from tidemill.ledger.judge import NOT_CLEAN, State
from tidemill.planning.plan import explain
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark
MARCH = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Event(NamedTuple):
    key: str
    at: datetime
    id: int
    amount: int


class Total(NamedTuple):
    total: int
    asked: datetime | None


class Balance(Fold[Total]):
    """A sum for ever; and a row two days after a deposit, if nothing has happened since."""

    key, time, order_by = ("key",), "at", ("id",)
    state = "total BIGINT, asked TIMESTAMP"
    output = "key STRING, at TIMESTAMP, what STRING, total BIGINT"
    buckets = 2

    def zero(self) -> Total:
        return Total(0, None)

    def step(self, state: Total, row: Any) -> Any:
        total = self.after(state.total, row.amount)
        return Total(total, row.at + 2 * DAY), [(row.key, row.at, "moved", total)]

    def after(self, total: int, amount: int) -> int:
        return total + amount

    def due(self, state: Total) -> datetime | None:
        return state.asked

    def on_time(self, key: Any, state: Total, time: datetime) -> Any:
        return Total(state.total, None), [(key[0], time, "idle", state.total)]


class Latest(Balance):
    """The last that was seen."""

    def after(self, total: int, amount: int) -> int:
        del total
        return amount


class Doubled(Balance):
    def after(self, total: int, amount: int) -> int:
        return total + 2 * amount


class Hasty(Balance):
    emit = "immediate"


class Counted(NamedTuple):
    total: int
    asked: datetime | None
    n: int


class Counting(Balance):
    """The same with a count beside it, in other buckets."""

    state = "total BIGINT, asked TIMESTAMP, n BIGINT"
    buckets = 5

    def zero(self) -> Any:
        return Counted(0, None, 0)

    def step(self, state: Any, row: Any) -> Any:
        after, rows = super().step(state, row)
        return Counted(*after, state.n + 1), rows

    def on_time(self, key: Any, state: Any, time: datetime) -> Any:
        after, rows = super().on_time(key, state, time)
        return Counted(*after, state.n), rows


def at(day: int, hour: int = 0) -> datetime:
    return MARCH + timedelta(days=day - 1, hours=hour)


class Books:
    """Events, a project over them, and what it must hold."""

    def __init__(self, root: Path, spark: SparkSession, by: Fold[Any], **special: Any) -> None:
        self.root, self.spark, self.special = root, spark, special
        self.events: list[Event] = []
        self.files = 0
        (root / "in").mkdir(exist_ok=True)
        self.code(by)

    def code(self, by: Fold[Any], transform: Callable[[DataFrame], DataFrame] | None = None) -> None:
        self.by = by
        values = {
            "name": "books",
            "source": {
                "files": {
                    "path": "in", "format": "json", "schema": "key STRING, at TIMESTAMP, id BIGINT, amount BIGINT",
                    "max_files_per_batch": 1,
                }
            },
            "event_time": {"column": "at", "watermark": "1 hour"},
            "interval": "day",
            "transform": transform or (lambda events: fold(events, by)),
            "sink": {"delta": {"path": "tables/books"}},
            "gate": {"max_removed": None},
            "chunk": 2,
            "trigger": {"available_now": True},
            **self.special,
        }  # fmt: skip
        self.engine = Engine(
            Project(str(self.root), {"books": parse_pipeline(values, self.root)}), spark=self.spark
        )

    def add(self, *events: tuple[str, datetime, int]) -> None:
        self.files += 1
        fresh = [
            Event(key, moment, self.files * 100 + n, amount) for n, (key, moment, amount) in enumerate(events)
        ]
        self.events += fresh
        lines = [json.dumps({**each._asdict(), "at": each.at.isoformat()}) for each in fresh]
        path = self.root / "in" / f"{self.files:03}.json"
        path.write_text("\n".join(lines))
        # Streams read by age.
        os.utime(path, (1_700_000_000 + self.files,) * 2)

    def run(self) -> TidemillError | None:
        (outcome,) = self.engine.run("books")
        return outcome.error

    def states(self) -> dict[str, str]:
        return {row.interval[-2:]: row.state.value for row in self.engine.coverage("books").rows}

    def rows(self, *days: int) -> list[tuple[Any, ...]]:
        found = DeltaTable(str(self.root / "tables/books")).to_pyarrow_table().to_pylist()
        rows = [(r["key"], r["at"].astimezone(UTC), r["what"], r["total"]) for r in found]
        return sorted(row for row in rows if not days or row[1].day in days)

    def played(self, until: datetime) -> tuple[list[tuple[Any, ...]], dict[str, Total]]:
        """The rows that come out before a moment, and the states then."""
        rows, states = [], {}
        by_key: dict[str, list[Event]] = defaultdict(list)
        for event in sorted(self.events, key=lambda each: (each.at, each.id)):
            by_key[event.key].append(event)
        for key, mine in by_key.items():
            total, asked = 0, None
            for event in [*mine, None]:
                now = until if event is None or event.at >= until else event.at
                if asked is not None and (
                    asked <= now if event is not None and event.at < until else asked < now
                ):
                    rows.append((key, asked, "idle", total))
                    asked = None
                if event is None or event.at >= until:
                    break
                total = {
                    "Balance": total,
                    "Counting": total,
                    "Narrow": total,
                    "Hasty": total,
                    "Doubled": total + event.amount,
                }.get(type(self.by).__name__, 0)
                total += event.amount
                asked = event.at + 2 * DAY
                rows.append((key, event.at, "moved", total))
            if (total, asked) != (0, None):
                states[key] = Total(total, asked)
        return sorted(rows), states

    def check(self, *, last: int) -> None:
        """Clean days hold what they must; and so do the states at the ends up to the first that is not."""
        wanted, _ = self.played(at(40))
        states = self.states()
        for day in range(1, last + 1):
            if states.get(f"{day:02}", "clean") == "clean":
                assert self.rows(day) == [row for row in wanted if row[1].day == day], day
        for day in range(2, last + 2):
            if all(states.get(f"{before:02}", "clean") == "clean" for before in range(1, day)):
                found = self.engine.state_at("books", at(day))
                assert found.why is None
                assert {
                    k.key["key"]: Total(k.state["total"], k.state["asked"]) for k in found.keys
                } == self.played(at(day))[1]


def dirty(books: Books) -> list[str]:
    return [day for day, state in books.states().items() if state not in {"clean", "open"}]


def test_backfills_alone_go_from_state_to_state(spark: SparkSession, tmp_path: Path):
    books = Books(tmp_path, spark, Balance())
    books.add(
        ("a", at(1, 5), 5), ("b", at(1, 6), 1), ("a", at(2, 7), -5), ("c", at(4, 1), 7), ("a", at(4, 2), 3)
    )
    # All there was before the first is in its state.
    done = books.engine.backfill("books", Request(at(3), at(5)))
    assert [each.outcome for each in done.chunks] == ["swapped"]
    assert dirty(books) == []
    wanted, _ = books.played(at(5))
    assert books.rows() == [row for row in wanted if row[1] >= at(3)]
    plan = books.engine.plan("books", Request(at(7), at(8)))
    # What lies between belongs to it, though it was not asked for.
    assert [each.label[-2:] for each in plan.intervals] == ["05", "06", "07"]
    assert "begin with the states at 2024-03-05T00:00; keep those at each interval's end" in " ".join(
        explain(plan)
    )
    books.engine.backfill(plan)
    assert books.rows() == [row for row in books.played(at(8))[0] if row[1] >= at(3)]
    found = books.engine.state_at("books", "2024-03-06T17:00")
    assert (found.at, found.why) == (at(6), None)
    assert {k.key["key"]: k.state["total"] for k in found.keys} == {"a": 3, "b": 1, "c": 7}
    # An earlier range, and what comes after it as far as nothing told what that began with.
    done = books.engine.backfill("books", Request(at(1), at(2)))
    books.check(last=7)
    assert (done.converged, done.untouched) == ("2024-03-03", 3)
    assert books.engine.verify("books").holds
    kept = books.engine.state_at("books", at(3), key={"key": "a"})
    assert [dict(each.state) for each in kept.keys] == [{"total": 0, "asked": at(4, 7)}]
    hands = Hands(engine=lambda *_, **__: books.engine)
    words = ["state", "books", "--at", "2024-03-06", "--json"]
    shown = CliRunner().invoke(app, [*words, "--key", "key=a", "--key", "key=c"], obj=hands)
    assert [each["key"]["key"] for each in json.loads(shown.stdout)["keys"]] == ["a", "c"]
    refused = json.loads(CliRunner().invoke(app, [*words, "--key", "account"], obj=hands).stdout)
    assert refused["next_step"] == "write --key key=VALUE; the key of books is key"


def test_a_stream_gives_states_and_late_rows_are_carried_as_far_as_they_reach(
    spark: SparkSession, tmp_path: Path
):
    # States on their way beside rows are not judged, nor set aside.
    suite = {
        "name": "kept",
        "expectations": [
            {
                "type": "expect_column_values_to_not_be_null",
                "kwargs": {"column": "key"},
                "meta": {"action": "fail"},
            },
            {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "total", "max_value": 1000},
                "meta": {"action": "quarantine"},
            },
        ],
    }
    books = Books(tmp_path, spark, Latest(), quality={"suite": suite})
    for day in range(1, 8):
        books.add(("a", at(day, 3), day), (f"k{day}", at(day, 4), day), ("a", at(day, 5), 10 + day))
    # Too late; before the last that day 3 saw of its key.
    books.add(("a", at(3, 4), 99), ("a", at(8, 1), 8))
    assert books.run() is None
    assert dirty(books) == ["03", "04", "05", "06", "07"]
    assert books.engine.status("books")[0].astray is not None
    books.check(last=7)
    done = books.engine.backfill("books", Request(states=NOT_CLEAN))
    assert [each.outcome for each in done.chunks] == ["swapped", "converged"]
    assert (done.converged, done.untouched, done.astray) == ("2024-03-03", 4, None)
    assert dirty(books) == []
    books.check(last=7)
    books.add(("a", at(9, 1), 9), ("b", at(10, 2), 1))
    assert books.run() is None
    assert dirty(books) == []
    books.check(last=9)
    assert books.engine.verify("books").holds


def test_a_sum_is_corrected_to_the_stream_s_edge_and_what_it_adds_is_not_clean(
    spark: SparkSession, tmp_path: Path
):
    books = Books(tmp_path, spark, Balance())
    for day in range(1, 5):
        books.add(("a", at(day, 3), day), ("b", at(day, 4), 1))
    books.add(("a", at(2, 4), 100), ("b", at(5, 3), 5))
    assert books.run() is None
    assert dirty(books) == ["02", "03", "04"]
    assert "2024-03-02 is dirty: late rows" in str(books.engine.state_at("books", at(4)).why)
    done = books.engine.backfill("books", Request(at(4), at(5)))
    # It was asked for the last day; the state breaks before.
    assert [each.outcome for each in done.chunks] == ["swapped", "swapped"]
    assert done.converged is None
    assert "its state is not the one that 2024-03-04 ended with" in str(done.astray)
    assert dirty(books) == []
    books.check(last=4)
    books.add(("a", at(6, 3), 6), ("a", at(7, 3), 7))
    assert books.run() is None
    assert dirty(books) == ["05", "06"]
    with pytest.raises(PlanError, match="come from two chains that do not join at 2024-03-05"):
        books.engine.state_at("books", at(6))
    books.engine.backfill("books", Request(states=NOT_CLEAN))
    assert dirty(books) == []
    books.check(last=6)
    assert books.engine.verify("books").holds


def test_another_code_is_recomputed_from_the_beginning_on(spark: SparkSession, tmp_path: Path):
    books = Books(tmp_path, spark, Balance())
    for day in range(1, 4):
        books.add(("a", at(day, 3), day))
    assert books.run() is None
    books.code(Doubled())
    books.add(("a", at(4, 3), 4), ("b", at(5, 3), 1))
    assert books.run() is None
    assert dirty(books) == ["01", "02", "03", "04"]
    done = books.engine.backfill("books", Request(at(4), at(5)))
    assert len(done.chunks) == 2
    assert dirty(books) == []
    books.check(last=4)


class Narrow(Balance):
    state = "total INT, asked TIMESTAMP"


class Text(Balance):
    state = "total STRING, asked TIMESTAMP"

    def zero(self) -> Any:
        return Total("", None)  # type: ignore[arg-type]

    def step(self, state: Total, row: Any) -> Any:
        return Total(f"{state.total}+{row.amount}", None), []  # type: ignore[arg-type]


def test_kept_states_are_widened_with_the_fold_s_and_read_back(spark: SparkSession, tmp_path: Path):
    books = Books(tmp_path, spark, Narrow())
    for day in range(1, 4):
        books.add(("a", at(day, 3), day), (f"k{day}", at(day, 4), 1))
    assert books.run() is None
    books.code(Balance())
    books.add(("a", at(4, 3), 2**40), ("b", at(5, 4), 1))
    assert books.run() is None
    # Of both codes, as their rows are.
    assert {k.key["key"]: k.state["total"] for k in books.engine.state_at("books", at(5)).keys} == {
        key: state.total for key, state in books.played(at(5))[1].items()
    }
    assert books.engine.state_at("books", at(5)).why is not None
    # In chunks: each begins with what the one before it has kept.
    books.engine.backfill("books", Request(states=NOT_CLEAN))
    books.add(("late", at(4, 5), 2**35), ("a", at(7, 3), 1))
    assert books.run() is None
    assert books.engine.backfill("books", Request(states=NOT_CLEAN)).chunks[0].manifest is not None
    assert dirty(books) == []
    books.check(last=6)
    books.code(Text())
    with pytest.raises(StateError, match="total: string, and long is kept; has another type"):
        books.engine.backfill("books", Request(at(1), at(2)))


class Stopped(Exception):
    """The process dies here."""


@contextmanager
def dying(point: Point, count: int = 1) -> Iterator[None]:
    left = [count]

    def listen(here: Point) -> None:
        left[0] -= here is point
        if not left[0] and here is point:
            raise Stopped

    with listening(listen):
        yield


NIGHTLY = pytest.mark.nightly


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point.FILES_STAGED, marks=NIGHTLY),
        Point.STATES_KEPT,
        pytest.param(Point.COMMITTED, marks=NIGHTLY),
    ],
)
def test_a_batch_that_dies_gives_its_states_once(spark: SparkSession, tmp_path: Path, point: Point):
    books = Books(tmp_path, spark, Balance())
    for day in range(1, 5):
        books.add(("a", at(day, 3), day), (f"k{day}", at(day, 4), 1))
    # The second batch that has states to keep.
    with dying(point, {Point.STATES_KEPT: 3}.get(point, 4)):
        assert books.run() is not None
    # Other code meets the same batch.
    books.code(Balance() if point is Point.COMMITTED else Doubled())
    assert books.run() is None
    kept = DeltaTable(str(tmp_path / "tables/books_states")).to_pyarrow_table().to_pylist()
    said = [(row["until"], row["key"]["key"]) for row in kept]
    assert len(said) == len(set(said))
    books.check(last=3)
    books.engine.backfill("books", Request(states=NOT_CLEAN))
    assert dirty(books) == []
    books.check(last=3)


@pytest.mark.parametrize(
    "point",
    [
        Point.STATES_KEPT,
        pytest.param(Point.COMMITTED, marks=NIGHTLY),
        pytest.param(Point.STATES_FORGOTTEN, marks=NIGHTLY),
    ],
)
def test_a_backfill_that_dies_again_and_again_is_carried_on(
    spark: SparkSession, tmp_path: Path, point: Point
):
    books = Books(tmp_path, spark, Balance())
    for day in range(1, 6):
        books.add(("a", at(day, 3), day))
    books.add(("a", at(2, 4), 100), ("b", at(6, 3), 5))
    assert books.run() is None
    with dying(point), pytest.raises(TransformError, match="Stopped"):
        books.engine.backfill("books", Request(states=NOT_CLEAN))
    books.check(last=5)
    (run,) = [path.name for path in (tmp_path / "tables/books/_tidemill/runs").iterdir()]
    with dying(point), pytest.raises(TransformError, match="Stopped"):
        books.engine.resume(run)
    books.check(last=5)
    books.engine.resume(run)
    assert dirty(books) == []
    books.check(last=5)
    # Taken back, and once more.
    books.engine.undo(run)
    assert dirty(books)[0] == "02"
    books.check(last=5)
    books.engine.backfill("books", Request(states=NOT_CLEAN))
    assert dirty(books) == []
    books.check(last=5)
    assert books.engine.verify("books").holds
    # Where rows are found equal there is nothing to take back, and the run's states are those that count.
    equal = books.engine.backfill("books", Request(at(3), at(4)))
    assert [each.outcome for each in equal.chunks] == ["equal", "converged"]
    books.engine.undo(equal.run)
    with dying(point), pytest.raises(TransformError, match="Stopped"):
        books.engine.resume(equal.run)
    assert dirty(books) == []
    books.check(last=5)


class Later(SystemClock):
    """Two weeks after the last event."""

    def now(self) -> datetime:
        return at(19)


def test_old_states_are_drawn_together_and_a_range_before_them_is_refused(
    spark: SparkSession, tmp_path: Path
):
    books = Books(tmp_path, spark, Balance(), sink={"delta": {"path": "tables/books", "keep_states": "14d"}})
    for day in range(1, 7):
        books.add(("a", at(day, 3), day), (f"k{day}", at(day, 4), 1))
    assert books.run() is None
    books.engine.clock = Later()
    assert books.engine.maintain("books", dry_run=True).states.drawn == "2024-03-04"
    assert books.engine.maintain("books").states == StatesKept("2024-03-04", 0, 0)
    assert books.engine.maintain("books").states.drawn is None
    for day in (5, 6):
        assert {k.key["key"]: k.state["total"] for k in books.engine.state_at("books", at(day)).keys} == {
            key: state.total for key, state in books.played(at(day))[1].items()
        }
    with pytest.raises(StateError, match="kept from 2024-03-05T00:00 on") as refused:
        books.engine.state_at("books", at(3))
    assert "--from 2024-03-01 computes all of it from nothing" in refused.value.next_step
    with pytest.raises(StateError, match="states at 2024-03-03T00:00 are not kept any more"):
        books.engine.backfill("books", Request(at(3), at(4)))
    books.engine.backfill("books", Request(at(5), at(6)))
    books.engine.backfill("books", Request(at(1), at(2)))
    assert dirty(books) == []
    assert books.rows(1, 2, 3, 4, 5) == [row for row in books.played(at(6))[0] if row[1].day < 6]


@pytest.mark.parametrize(
    ("by", "special", "transform", "says"),
    [
        (Hasty(), {}, None, "is immediate, so that its states depend on arrival"),
        (Balance(), {"lookback": "1d"}, None, "gives rows of the interval that it steps"),
        (Balance(), {}, lambda e: fold(e, Balance()).where("total > 3"), "is not the last step"),
        (Balance(), {}, lambda e: fold(e, Balance()).select("key", "at"), "is not the last step"),
    ],
)
def test_what_could_not_be_carried_is_refused(
    spark: SparkSession, tmp_path: Path, by: Fold[Any], special: dict[str, Any], transform: Any, says: str
):
    books = Books(tmp_path, spark, by, **special)
    books.code(by, transform)
    books.add(("a", at(1), 1))
    assert says in str(books.run())
    with pytest.raises(PlanError, match=says):
        books.engine.backfill("books", Request(at(1), at(2)))


def test_chunks_come_in_the_order_of_time(spark: SparkSession, tmp_path: Path):
    books = Books(tmp_path, spark, Balance())
    books.add(("a", at(1), 1), ("a", at(5), 1))
    # Nothing says yet that states are carried.
    for request, at_once, option in (
        (Request(at(1), at(6), newest_first=True), 1, "--newest-first"),
        (Request(at(1), at(6)), 2, "--max-concurrent"),
    ):
        with pytest.raises(PlanError, match=f"leave {option} away"):
            books.engine.backfill("books", request, max_concurrent=at_once)
    books.engine.backfill("books", Request(at(1), at(6)))
    with pytest.raises(PlanError, match="leave --max-concurrent away"):
        books.engine.backfill("books", Request(at(1), at(6)), max_concurrent=2)
    with pytest.raises(PlanError, match="cannot be computed first"):
        books.engine.plan("books", Request(at(1), at(6), newest_first=True))
    with pytest.raises(PlanError, match="no states are kept at 2024-03-09"):
        books.engine.state_at("books", at(9))
    assert books.engine.coverage("books").in_state(State.DIRTY) == ()
    # States travel beside rows, which Spark's own writer does not part: a table that comes to need it is refused.
    path = books.engine.project.pipeline("books").table.path
    spark.sql(f"ALTER TABLE delta.`{path}` ADD CONSTRAINT some CHECK (key <> '')")
    says = "books carries states, which takes log commits"
    with pytest.raises(StateError, match=says):
        books.engine.backfill("books", Request(at(1), at(6)))
    assert says in str(books.run())
