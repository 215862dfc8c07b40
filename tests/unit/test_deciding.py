"""Deciding on a stream, with Spark's part played in memory: batches, crashes on either side of the commit, lost checkpoints, code
that changes, commands that come again at any time. Buckets, seeds and the fold are the real ones.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
from tidemill.eventsourcing import EventEnvelope, folded
from tidemill.eventsourcing.envelope import EVENT_COLUMNS
from tidemill.folds.bucket import Bucket
from tidemill.folds.shape import HASH, KEY, Shape

STAMP = pa.timestamp("us", "UTC")
ROWS = pa.schema(
    [
        ("aggregate", pa.string()),
        ("subject", pa.string()),
        ("time", STAMP),
        ("id", pa.string()),
        ("whole", pa.string()),
    ]
)
STATE = pa.schema(
    [
        ("code", pa.string()),
        ("version", pa.int64()),
        ("time", pa.int64()),
        ("body", pa.string()),
        ("seen", pa.binary()),
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
    def put(self, name: str, blob: bytes) -> None:
        self[name] = blob

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
        ordered = sorted(
            self.rows,
            key=lambda r: (r["aggregate"] or "", r["subject"] or "", r["kind"] is not None, r["version"]),
        )
        keyed = [{**row, **{name: row[name] or "" for name in ("aggregate", "subject")}} for row in ordered]
        given = iter([pa.RecordBatch.from_pylist(keyed, OUTPUT)]) if keyed else iter(())
        folder = self.folder / secrets.token_hex(6)
        for made in seeds._Planted(DOMAIN)(given):
            for number in set(made.column("part").to_pylist()):
                part = folder / f"part={number}"
                part.mkdir(parents=True)
                mine = pa.Table.from_batches([made]).filter(pc.equal(made.column("part"), number))
                parquet.write_table(mine.drop_columns(["part"]), part / "0.parquet")
        folder.mkdir(exist_ok=True)
        (folder / WHOLE).touch()
        return Seed(f"{self.code}-{secrets.token_hex(4)}", str(folder))


def shape_of(seed: Seed) -> Shape:
    return Shape(cloudpickle.dumps(Deciding(DOMAIN, seed)), ROWS, STATE, OUTPUT, None, timed=False)


def table(commands: list[Command]) -> pa.Table:
    rows = []
    for number, subject, kind, minute, amount in commands:
        data = {"owner": "ann"} if kind == "Open" else {"amount": amount}
        name = f"c{number}{subject}"
        whole = {"id": name, "type": f"account.{kind}", "subject": subject, "data": json.dumps(data)}
        whole = {key: value for key, value in whole.items() if value}  # as Spark writes it
        rows.append(("account", subject, NOON + timedelta(minutes=minute), name, json.dumps(whole)))
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
