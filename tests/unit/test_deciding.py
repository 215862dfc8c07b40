"""Deciding on a stream, with Spark's part played in memory: batches, crashes on either side of the commit, lost checkpoints, code
that changes, commands that come again at any time. Buckets, seeds and the fold are the real ones.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pyspark import cloudpickle

from jobs.bank import BANK
from tidemill.deciding import seeds
from tidemill.deciding.carried import carried
from tidemill.deciding.fold import COLUMNS, Deciding
from tidemill.deciding.seeds import WHOLE, Seed
from tidemill.eventsourcing import CommandEnvelope, EventEnvelope, Kind, folded, handle
from tidemill.eventsourcing.envelope import EVENT_COLUMNS
from tidemill.folds import once
from tidemill.folds.bucket import Bucket
from tidemill.folds.cells import Held
from tidemill.folds.head import Head
from tidemill.folds.once import Once, Size
from tidemill.folds.shape import HASH, KEY, Shape

STAMP = pa.timestamp("us", "UTC")
ROWS = pa.schema(
    [
        ("aggregate", pa.string()),
        ("subject", pa.string()),
        ("time", STAMP),
        ("id", pa.string()),
        ("mark", pa.binary()),
        ("whole", pa.string()),
    ]
)
STATE = pa.schema(
    [
        ("code", pa.string()),
        ("version", pa.int64()),
        ("time", pa.int64()),
        ("body", pa.string()),
        ("problem", pa.string()),
    ]
)
TYPES = {"STRING": pa.string(), "BIGINT": pa.int64(), "INT": pa.int32(), "TIMESTAMP": STAMP}
OUTPUT = pa.schema([(name, TYPES[kind]) for name, kind in COLUMNS.items()])
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
DOMAIN = carried(BANK)

Command = tuple[int, str, str, int, int]
"""Number, account, kind, minute, amount."""
COMMANDS = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from(["a", "b", ""]),
        st.sampled_from(["Open", "Deposit", "Withdraw", "Close"]),
        st.integers(0, 9),
        st.integers(-2, 40),
    ),
    max_size=24,
)


class Cells(dict[str, bytes]):
    """A bucket's blobs in memory; ``passed``: the bytes that went in or out."""

    passed = 0

    def get(self, name: str, default: Any = None) -> Any:
        found = super().get(name, default)
        self.passed += len(found or b"")
        return found

    def put(self, name: str, blob: bytes) -> None:
        self[name] = blob
        self.passed += len(blob)

    def drop(self, name: str) -> None:
        del self[name]


class World:
    """A stream over a list of batches, and what it has published."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells, self.read = Cells(), 0
        self.rows: list[dict[str, Any]] = []
        self.published = 0
        self.code, self.seed = 0, Seed("0-begin")

    def batch(self, batches: list[list[Command]], crash: str | None) -> None:
        """The next batch; a crash leaves what it leaves there."""
        known, cells = self.read < self.published, Cells(self.cells)
        bucket = Bucket(shape_of(self.seed), cells)
        out = shape_of(self.seed).made(bucket.advance([table(batches[self.read])], None)).to_pylist()
        bucket.save()
        if crash == "staged":
            return
        if not known:
            self.rows += out
            self.published = self.read + 1
        if crash == "published":
            return
        self.cells, self.read = cells, self.read + 1

    def start_with(self, *, other_code: bool, no_checkpoint: bool) -> None:
        if no_checkpoint:
            # Batches are numbered anew: none of them was published under its number.
            self.cells, self.read, self.published = Cells(), 0, 0
        if other_code or no_checkpoint:
            self.code += other_code
            self.seed = self.planted()

    def planted(self) -> Seed:
        folder = self.folder / secrets.token_hex(6)
        folder.mkdir()
        events = [row for row in self.rows if row["kind"] is None]
        ordered = sorted(events, key=lambda r: (r["aggregate"], r["subject"], r["version"]))
        given = iter([pa.RecordBatch.from_pylist(ordered, OUTPUT)]) if ordered else iter(())
        for made in seeds._Planted(DOMAIN)(given):
            for number in set(made.column("part").to_pylist()):
                part = folder / f"part={number}"
                part.mkdir(parents=True)
                mine = pa.Table.from_batches([made]).filter(pc.equal(made.column("part"), number))
                parquet.write_table(mine.drop_columns(["part"]), part / "0.parquet")
        marks = sorted(mark_of(row["causationid"] or row["id"]) for row in self.rows)
        (folder / seeds.MARKS).mkdir()
        if marks:
            batch = pa.RecordBatch.from_arrays([pa.array(marks)], names=["mark"])
            list(seeds._Listed(str(folder / seeds.MARKS))(iter([batch])))
        (folder / WHOLE).touch()
        return Seed(f"{self.code}-{secrets.token_hex(4)}", str(folder))


def mark_of(name: str) -> bytes:
    return sha256(name.encode()).digest()[:16]


def shape_of(seed: Seed) -> Shape:
    return Shape(cloudpickle.dumps(Deciding(DOMAIN, seed)), ROWS, STATE, OUTPUT, None, timed=False)


def table(commands: list[Command]) -> pa.Table:
    rows = []
    for number, subject, kind, minute, amount in commands:
        data = {"owner": "ann"} if kind == "Open" else {"amount": amount}
        name = f"c{number}{subject}"
        whole = {"id": name, "type": f"account.{kind}", "subject": subject, "data": json.dumps(data)}
        whole = {key: value for key, value in whole.items() if value}  # as Spark writes it
        at = NOON + timedelta(minutes=minute)
        rows.append(("account", subject, at, name, mark_of(name), json.dumps(whole)))
    columns = list(zip(*rows, strict=True)) or [[]] * len(ROWS)
    arrays = [pa.array(part, each.type) for part, each in zip(columns, ROWS, strict=True)]
    keys = [f"7:account{len(row[1])}:{row[1]}" for row in rows]
    hashes = pa.array([hash(key) for key in keys], pa.int64())
    return pa.Table.from_arrays(
        [*arrays, pa.array(keys, pa.string()), hashes], names=[*ROWS.names, KEY, HASH]
    )


@settings(deadline=None, max_examples=120)
@given(COMMANDS, st.data())
def test_each_id_has_one_outcome_whatever_happens_on_the_way(commands: list[Command], data: Any):
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        again = data.draw(st.lists(st.sampled_from(commands), max_size=8)) if commands else []
        arriving = [*commands, *again]
        batches: list[list[Command]] = []
        while arriving:
            size = data.draw(st.integers(1, len(arriving)))
            batches.append(arriving[:size])
            arriving = arriving[size:]
        starts = 0
        while world.read < len(batches):
            crash = data.draw(st.sampled_from([None, None, "staged", "published"])) if starts < 6 else None
            world.batch(batches, crash)
            if crash is not None or (starts < 6 and data.draw(st.booleans())):
                starts += 1
                lost = data.draw(st.sampled_from([False, False, True]))
                world.start_with(other_code=data.draw(st.booleans()), no_checkpoint=lost)
    check(world, [each for batch in batches for each in batch])


def check(world: World, commands: list[Command]) -> None:
    outcomes = [row["causationid"] if row["kind"] is None else row["id"] for row in world.rows]
    assert sorted(outcomes) == sorted({f"c{number}{subject}" for number, subject, *_ in commands})
    for subject in ("a", "b"):
        mine = [row for row in world.rows if row["subject"] == subject and row["kind"] is None]
        assert [row["version"] for row in mine] == list(range(1, len(mine) + 1))
        events = [EventEnvelope(**{name: row[name] for name in EVENT_COLUMNS}) for row in mine]
        assert [each.time for each in events] == sorted(each.time for each in events)
        balance = 0
        for each in events:
            amount = json.loads(each.data).get("amount", 0)
            balance += -amount if each.type == "account.Withdrawn" else amount
            assert json.loads(each.data).get("balance", 0) == balance >= 0
        state = folded(BANK, events).state
        assert not state or json.loads(state)["balance"] == balance


def test_a_command_costs_the_same_however_many_its_aggregate_has_had():
    cost = {}
    for many in (3_000, 150_000):
        world, head = Cells(), Head(buckets=16)
        Once(world, head.met).first([mark_of(f"c{n}a") for n in range(many)], lambda _: False)
        Held(world, "").save(head.dumped())
        cells = Cells(world)
        asked = [
            (5, "a", "Open", 0, 0),
            (many, "a", "Open", 1, 0),
            (many + 1, "a", "Deposit", 2, 1),
            (many, "a", "Close", 3, 0),
        ]
        made = Bucket(shape_of(Seed("0-begin")), cells).advance([table(asked)], None)
        assert [row[2] for row in made] == ["account.Opened", "account.Deposited"]
        cost[many] = cells.passed
    # A mark is 16 bytes: all of them would be more than two million.
    assert cost[150_000] < 1.5 * cost[3_000] < 100_000


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 400), max_size=60), max_size=12), st.sets(st.integers(0, 400)))
def test_a_value_comes_for_the_first_time_once_whatever_the_cuts(
    batches: list[list[int]], elsewhere: set[int]
):
    cells, size, met = Cells(), Size(), set(elsewhere)
    known = {mark_of(str(each)) for each in elsewhere}
    with patch.object(once, "A_CHUNK", 4):
        for batch in batches:
            found = Once(cells, size).first([mark_of(str(each)) for each in batch], known.__contains__)
            wanted = []
            for each in batch:
                wanted.append(each not in met)
                met.add(each)
            assert found == wanted
            size = Size(**json.loads(json.dumps(asdict(size))))
    assert size.values == len(met - elsewhere)
    assert sum(map(len, cells.values())) == 16 * size.values
    assert max(map(len, cells.values()), default=0) <= 16 * 4 * 8


def test_a_value_is_met_only_where_a_whole_one_stands():
    first, second = bytes(16), bytes(8) + b"x" * 8
    cells = Cells({"o0": b"y" * 8 + first + b"y" * 8})
    assert Once(cells, Size(values=2)).first([first, second, second], lambda _: False) == [True, True, False]


def test_an_aggregate_that_cannot_be_read_is_kept_with_its_version(tmp_path: Path):
    world = World(tmp_path)
    world.batch([[(1, "a", "Open", 1, 0), *((n, "a", "Deposit", n, 3) for n in range(2, 6))]], None)
    world.rows[2]["schemaversion"] = 9
    stands = seeds.standing_of(world.planted(), "account", "a")
    assert (stands.version, stands.state) == (5, "")
    assert "event account/a/3" in stands.problem
    _, (refused,) = handle(BANK, stands, CommandEnvelope("x", "account.Deposit", "a", NOON, '{"amount": 1}'))
    assert (refused.version, refused.kind) == (5, Kind.FAILED)  # type: ignore[union-attr]
