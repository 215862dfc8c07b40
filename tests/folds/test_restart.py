"""A stream whose own states are not those of its table begins anew, where it stands: nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.folds.test_unbounded import (
    Balance,
    Books,
    Counting,
    Doubled,
    Latest,
    Narrow,
    Total,
    at,
    dirty,
    dying,
)
from tidemill.display.runs import how_far
from tidemill.display.status import told
from tidemill.engine import Engine
from tidemill.errors import LeaseHeld, PlanError, StateError, TransformError
from tidemill.execution.runs import RunFolder
from tidemill.execution.swap import swap_chunk
from tidemill.folds import fold
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.facts import Commit, LiveBatch, Swap
from tidemill.ledger.judge import NOT_CLEAN
from tidemill.ledger.lease import Lease
from tidemill.planning.plan import explain
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening
from tidemill.sinks.table import LogTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def folders(books: Books) -> list[str]:
    """What is kept for a stream to begin anew with."""
    return [path.name for path in (books.root / "tables/books/_tidemill/seeds").glob("*")]


def commits(books: Books) -> list[Commit]:
    """The table's log."""
    return list(log.commits_after(f"{books.root}/tables/books", -1, Grain.DAY))


def publish_late(books: Books) -> None:
    """What is left to do of a restart that was paused before its commit."""
    view = books.engine.view("books")
    state = f"{books.root}/tables/books/_tidemill"
    run = max((Path(state) / "runs").iterdir(), key=lambda each: each.stat().st_mtime).name
    (manifest,) = RunFolder(state, run).manifests()
    table = LogTable.open(f"{books.root}/tables/books", Grain.DAY)
    assert manifest.seed is not None
    assert table is not None
    assert not swap_chunk(view.pipeline, table, manifest).already


def once(point: Point, do: Callable[[], None]) -> Callable[[Point], None]:
    """A listener that does something the first time a point is passed."""
    left = [point]

    def listen(here: Point) -> None:
        if here in left:
            left.clear()
            do()

    return listen


def stream_of(books: Books) -> str:
    """What is said of the stream."""
    return dict(told(books.engine.status("books")[0])).get("stream", "")


def begin_once_more(books: Books, seed: Path) -> None:
    """What a stream was to begin anew with is damaged, and made again from the same states, under another name."""
    damaged = next(iter(seed.glob("*/*/*.parquet")))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    error = books.run()
    assert isinstance(error, StateError)
    assert f"{damaged.name} is not what was written, in {seed}" in error.message
    assert "remove it and restart the stream anew" in str(error.next_step)
    assert books.engine.restart("books").chunks
    assert folders(books) != [seed.name]


def test_a_stream_begins_anew_with_what_it_should_hold(spark: SparkSession, tmp_path: Path):
    books = Books(tmp_path, spark, Balance())
    for day in range(1, 5):
        books.add(("a", at(day, 3), day), (f"k{day}", at(day, 4), 1))
    books.add(("a", at(2, 4), 100), ("late", at(3, 3), 1), ("a", at(5, 3), 5))
    # The watermark comes to 20:00 of the fifth: one row is stepped, and in the table; one waits.
    books.add(("a", at(5, 20), 3), ("c", at(5, 21), 2))
    (outcome,) = books.engine.run("books")
    assert outcome.error is None
    assert "2024-03-02, which is dirty" in str(outcome.astray)
    assert "backfill what is not clean, then: tidemill restart books" in stream_of(books)
    with pytest.raises(
        PlanError, match=r"states that are not right: 2024-03-02, 2024-03-03, 2024-03-04"
    ) as refused:
        books.engine.restart("books")
    assert "tidemill backfill books --dirty" in refused.value.next_step
    repaired = books.engine.backfill("books", Request(states=NOT_CLEAN))
    assert how_far(repaired)[-1].endswith("exactly where it stands: tidemill restart books")
    assert stream_of(books).endswith("have it begin anew from those of its table: tidemill restart books")
    with Lease(str(tmp_path / "tables/books/_tidemill"), "live", what="run"), pytest.raises(LeaseHeld):
        books.engine.restart("books")
    said = " ".join(explain(books.engine.foresee_restart("books")))
    assert "from the states at 2024-03-05T00:00 on" in said
    assert "keep the states at 2024-03-05T20:00:00, and the rows after it" in said
    wrong = books.rows(5)
    with dying(Point.SEED_SOWN), pytest.raises(TransformError, match="Stopped"):
        books.engine.restart("books")
    # As it was.
    assert books.engine.status("books")[0].astray is not None
    assert (books.rows(5), len(folders(books))) == (wrong, 1)
    with dying(Point.COMMITTED), pytest.raises(TransformError, match="Stopped"):
        books.engine.restart("books")
    # It is done.
    assert books.engine.foresee_restart("books").chunks == ()
    assert books.engine.status("books")[0].astray is None
    assert books.engine.restart("books").chunks == ()
    (seed,) = (tmp_path / "tables/books/_tidemill/seeds").iterdir()
    seed.rename(tmp_path / "away")
    assert "are not there any more" in " ".join(explain(books.engine.foresee_restart("books")))
    (tmp_path / "away").rename(seed)
    assert books.rows(5) == [
        row for row in books.played(at(5, 20) + timedelta(seconds=1))[0] if row[1] >= at(5)
    ]
    for run in {each.name for each in (tmp_path / "tables/books/_tidemill/runs").iterdir()} - {repaired.run}:
        with pytest.raises(PlanError, match="nothing takes that back"):
            books.engine.undo(run)
    # Rows for a key that is new, and for one that waits; one that is too late, which is seen as ever.
    books.add(("d", at(5, 22), 4), ("c", at(5, 21) + timedelta(minutes=30), 1), ("k1", at(6, 23), 7))
    begin_once_more(books, seed)
    for point in (Point.FILES_STAGED, Point.COMMITTED):
        with dying(point):
            assert books.run() is not None
    assert len(folders(books)) == 1
    books.add(("a", at(8, 3), 6), ("late", at(9, 3), 2))
    assert books.run() is None
    assert folders(books) == []
    assert dirty(books) == []
    books.check(last=8)
    assert books.rows() == books.played(at(9, 2) + timedelta(seconds=1))[0]
    assert books.engine.verify("books").holds


def test_so_it_does_with_the_states_and_the_waiting_rows_of_other_code(spark: SparkSession, tmp_path: Path):
    books = Books(tmp_path, spark, Balance())
    books.add(("a", at(1, 3), 1), ("b", at(1, 5), 1))
    books.add(("a", at(2, 3), 2), ("a", at(2, 5), 2), ("b", at(2, 5), 3))
    assert books.run() is None
    # What a step before the fold makes of rows is other code, too: so are the rows that wait.
    books.code(Doubled(), lambda events: fold(events.withColumn("amount", events["amount"] * 2), Balance()))
    assert dirty(books) == ["01"]
    books.engine.backfill("books", Request(states=NOT_CLEAN))
    # It is paused right before its commit, for so long that another driver has taken its lease and begun the next batch.
    with dying(Point.COMMIT_CHECKED), pytest.raises(TransformError, match="Stopped"):
        books.engine.restart("books")
    books.add(("a", at(3, 3), 4), ("c", at(4, 3), 1))
    with listening(once(Point.FILES_STAGED, lambda: publish_late(books))):
        assert books.run() is None
    (seed,) = {
        each.fact.seed.name for each in commits(books) if isinstance(each.fact, Swap) and each.fact.seed
    }
    assert {each.fact.planted for each in commits(books) if isinstance(each.fact, LiveBatch)} == {"", seed}
    assert dirty(books) == []
    books.check(last=3)
    assert books.rows() == books.played(at(4, 2) + timedelta(seconds=1))[0]


def test_so_it_does_with_states_that_nothing_stored_can_be_read_as(spark: SparkSession, tmp_path: Path):
    """A field less, a narrower one, fewer buckets."""
    books = Books(tmp_path, spark, Counting())
    books.add(("a", at(1, 3), 1), *((f"k{n}", at(1, 5), n) for n in range(9)))
    # Of the second, one row and the timers of the keys wait.
    books.add(("a", at(2, 3), 2), ("b", at(2, 5), 3))
    assert books.run() is None
    books.code(Narrow())
    books.add(("a", at(3, 3), 4), ("k3", at(3, 4), 7))
    for _ in range(2):
        error = books.run()
        assert isinstance(error, StateError)
        assert (
            "fold Narrow: the stream began with key key in 5 buckets, and now it is key in 2" in error.message
        )
        assert "--missing, then tidemill restart books" in error.next_step
        if dirty(books):
            assert books.engine.backfill("books", Request(states=NOT_CLEAN)).chunks
            with dying(Point.SEED_SOWN), pytest.raises(TransformError, match="Stopped"):
                books.engine.restart("books")
            # What no commit names counts for nothing: the stream is refused as before.
    assert books.engine.restart("books").chunks
    for point in (Point.FILES_STAGED, Point.COMMITTED):
        with dying(point):
            assert books.run() is not None
    # All the keys that wait for their time are there, once, in the buckets of today.
    books.add(("c", at(6, 3), 1))
    said: list[str] = []
    books.engine = Engine(books.engine.project, spark=spark, say=said.append)
    assert books.run() is None
    like_any = "as a stream like any other: it has taken over the states that its restart had made"
    assert f"books: begins again {like_any}" in said
    assert dirty(books) == []
    books.check(last=5)
    assert books.rows() == books.played(at(6, 2) + timedelta(seconds=1))[0]
    assert books.engine.restart("books").chunks == ()


def pass_over(books: Books) -> None:
    """Have the stream's checkpoint say that it has read the newest file."""
    checkpoint = books.root / "tables/books/_tidemill/checkpoint"
    last = max(int(path.name) for path in (checkpoint / "offsets").iterdir() if path.name.isdigit())
    *head, end = (checkpoint / "offsets" / str(last)).read_text().splitlines()
    read = json.loads(end)["logOffset"] + 1
    file = {"path": f"file://{books.root}/in/{books.files:03}.json", "timestamp": 0, "batchId": read}
    (checkpoint / "sources/0" / str(read)).write_text(f"v1\n{json.dumps(file)}")
    (checkpoint / "offsets" / str(last)).write_text("\n".join([*head, json.dumps({"logOffset": read})]))
    for path in (checkpoint / "offsets" / f".{last}.crc", checkpoint / "sources/0" / f".{read}.crc"):
        path.unlink(missing_ok=True)


@pytest.mark.nightly
def test_a_stream_that_passed_over_input_is_not_trusted_until_it_begins_anew(
    spark: SparkSession, tmp_path: Path
):
    books = Books(tmp_path, spark, Balance(), chunk=31)
    for day in (1, 2, 3):
        books.add(("a", at(day, 3), day), ("b", at(day, 5), 1))
        assert books.run() is None
    # Of a day before all that is known, and of one to come.
    books.add(("z", at(0, 5), 7), ("z", at(6, 3), 8))
    pass_over(books)
    books.add(("b", at(4, 3), 1))
    assert books.run() is None
    assert dirty(books) == ["01", "02", "03"]
    repair = Request(states=NOT_CLEAN)
    books.engine.backfill("books", repair)
    assert dirty(books) == []
    books.check(last=3)
    assert "a stream that passed over input" in str(books.engine.status("books")[0].astray)
    books.add(("a", at(8, 3), 5))
    assert books.run() is None
    assert dirty(books) == ["04", "05", "06", "07"]
    books.engine.backfill("books", repair)
    books.engine.restart("books")
    books.add(("b", at(10, 3), 1))
    assert books.run() is None
    assert dirty(books) == []
    books.check(last=8)
    assert books.engine.verify("books").holds


class Recent(Latest):
    """What was last seen of a key; a row twelve hours after it; then it is forgotten."""

    horizon = "1 day"

    def step(self, state: Total, row: Any) -> Any:
        del state
        return Total(row.amount, row.at + timedelta(hours=12)), [(row.key, row.at, "moved", row.amount)]


class ByPair(Recent):
    """A key of two columns, and its state in another type."""

    key, order_by = ("key", "id"), ()
    state = "total STRING, asked TIMESTAMP"
    buckets = 4

    def zero(self) -> Any:
        return Total("", None)  # type: ignore[arg-type]

    def step(self, state: Any, row: Any) -> Any:
        after, rows = super().step(state, row)
        return after._replace(total=str(after.total)), rows  # type: ignore[arg-type]

    def on_time(self, key: Any, state: Any, time: datetime) -> Any:
        after, rows = super().on_time(key, state._replace(total=int(state.total)), time)
        return after._replace(total=state.total), rows


class Patient(Recent):
    """The same, three days and a half after it."""

    horizon = "4 days"

    def step(self, state: Total, row: Any) -> Any:
        del state
        return Total(row.amount, row.at + timedelta(hours=84)), [(row.key, row.at, "moved", row.amount)]


def recent(books: Books, until: datetime, hours: int = 12) -> list[tuple[Any, ...]]:
    """What comes out up to and with a moment, and so many hours after the last row of a key."""
    by_key: dict[str, list[Any]] = defaultdict(list)
    for event in sorted(books.events, key=lambda each: (each.at, each.id)):
        by_key[event.key].append(event)
    rows = []
    for key, mine in by_key.items():
        for event, after in zip(mine, [*mine[1:], None], strict=True):
            rows.append((key, event.at, "moved", event.amount))
            asked = event.at + timedelta(hours=hours)
            if after is None or asked <= after.at:
                rows.append((key, asked, "idle", event.amount))
    return sorted(row for row in rows if row[1] <= until)


def test_a_fold_that_forgets_begins_anew_so_that_open_intervals_will_be_right(
    spark: SparkSession, tmp_path: Path
):
    books = Books(tmp_path, spark, Recent(), lookback="1d")
    books.add(("a", at(1, 3), 1))
    books.add(("a", at(2, 20), 2))
    # The last of these is late: its state is not the stream's, which would not know what is due of it on the third.
    books.add(("b", at(2, 21), 3))
    books.add(("k", at(2, 15), 9), ("b", at(2, 22), 4))
    assert books.run() is None
    assert books.engine.foresee_restart("books").chunks[0].intervals
    books.engine.restart("books")
    assert books.rows() == recent(books, at(2, 21))
    books.add(("a", at(3, 2), 5), ("c", at(4, 3), 6))
    assert books.run() is None
    assert dirty(books) == []
    assert books.rows() == recent(books, at(4, 2))
    assert books.engine.verify("books").holds
    # Of what is due on the sixth by code that remembers longer, the stream has forgotten the rows; the fifth is the last day that
    # the code before would have looked at.
    books.special["lookback"] = "4d"
    books.code(Patient())
    books.add(("e", at(9, 3), 1))
    assert books.run() is None
    assert dirty(books) == [f"{day:02}" for day in range(1, 9)]
    books.engine.backfill("books", Request(states=NOT_CLEAN))
    assert dirty(books) == []
    assert books.rows() == recent(books, at(9, 2), hours=84)
    assert {row[1] for row in books.rows(6)} == {at(6, 3), at(6, 10), at(6, 14)}


@pytest.mark.nightly
def test_so_does_one_whose_key_is_another(spark: SparkSession, tmp_path: Path):
    books = Books(tmp_path, spark, ByPair(), lookback="1d")
    books.add(("a", at(1, 3), 1), ("b", at(1, 20), 2))
    books.add(("a", at(2, 20), 3), ("b", at(2, 21), 4))
    assert books.run() is None
    books.code(Recent())
    books.add(("a", at(3, 2), 5), ("c", at(3, 3), 6))
    error = books.run()
    assert "began with key key, id in 4 buckets, and now it is key in 2" in str(error)
    assert "today's code makes: tidemill restart books" in str(error)
    # What is before the stream's edge may be backfilled then or later.
    assert books.engine.restart("books").chunks
    assert books.run() is None
    books.add(("d", at(5, 3), 1))
    assert books.run() is None
    assert dirty(books) == ["01"]
    assert [row for row in books.rows() if row[1] >= at(2)] == [
        row for row in recent(books, at(5, 2)) if row[1] >= at(2)
    ]
    books.engine.backfill("books", Request(states=NOT_CLEAN))
    assert books.rows() == recent(books, at(5, 2))
    assert books.engine.verify("books").holds
