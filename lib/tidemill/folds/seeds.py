"""What a stream begins anew with, on its way through files: made by tasks of a batch, read by those of a stream.

As in the state store, a bucket's states and waiting rows are Arrow blobs; each has its schema, and is read as a stored one is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.errors import StateError
from tidemill.folds.carried import entries_of
from tidemill.folds.carry import digest, state_of
from tidemill.folds.cells import blob_of, table_of
from tidemill.folds.machine import Row
from tidemill.folds.planting import Planting
from tidemill.folds.segments import Entry, table_of_kept
from tidemill.folds.shape import BUCKET, HASH, ROWS, Shape, first_key, plain
from tidemill.storage import parquet, place, walk

STATES = "of_states"
"""The column that parts states from rows that wait."""
WHOLE = "_WHOLE"
"""The file in a seed's folder that says that all of it is there, and how long each file is; of before that was kept, it is empty."""
_AT_ONCE = 8192


@dataclass(frozen=True)
class Sown:
    """Rows of a batch in, sorted, states first; out come the states of their keys at a moment, a blob a bucket."""

    shape: Shape
    reached: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A task's batches."""
        ready: list[tuple[Entry, bool]] = []
        for each in self._kept(batches):
            ready.append(each)
            if len(ready) == _AT_ONCE:
                yield self._blobs(ready)
                ready = []
        if ready:
            yield self._blobs(ready)

    def _kept(self, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[Entry, bool]]:
        """Each key that a stream would keep, and whether it was stepped since the state that it began with."""
        shape, machine = self.shape, self.shape.machine
        zero, names = tuple(machine.fold.zero()), shape.state.names
        entries = chain.from_iterable(map(self._entries, batches))
        for (text, hashed), group in groupby(entries, key=itemgetter(0, 1)):
            if text is None:
                continue  # its rows have failed, one by one
            mine = iter(group)
            _, _, row, start = next(mine)
            rest = (each for _, _, each, _ in mine if each is not None)
            if row is not None:
                kept, touched = first_key(shape, row[1]), True
                steps = machine.run(kept, chain([row], rest), self.reached)
            else:
                assert start is not None  # noqa: S101  an entry is one or the other
                kept = state_of(machine, *start)
                kept.given = digest(text, names, kept.state, zero)
                woken = kept.wake is not None and kept.wake <= self.reached
                ahead = next(rest, None)
                touched = woken or ahead is not None
                steps = machine.run(kept, () if ahead is None else chain([ahead], rest), self.reached)
            for _ in steps:
                pass
            if kept.given is not None or not machine.idle(kept):
                if kept.last is None and machine.horizon is None:
                    # Its rows lie before the states that it began with. Should the fold be given a horizon, it has to be
                    # forgotten some time, and never too early: it had none after this.
                    kept.last = self.reached
                yield (text, hashed, kept), touched

    def _entries(self, batch: pa.RecordBatch) -> Iterator[tuple[str | None, int, Row | None, Any]]:
        hashes = plain(batch.column(HASH))
        for hashed, (text, row, start) in zip(hashes, entries_of(self.shape, batch), strict=True):
            yield text, hashed, row, start

    def _blobs(self, ready: Sequence[tuple[Entry, bool]]) -> pa.RecordBatch:
        buckets = self.shape.machine.fold.buckets
        parts: dict[int, list[tuple[Entry, bool]]] = defaultdict(list)
        for each in ready:
            parts[each[0][1] % buckets].append(each)
        blobs = [
            blob_of(table_of_kept(self.shape, [e for e, _ in part], touched=[t for _, t in part]))
            for part in parts.values()
        ]
        return pa.RecordBatch.from_arrays(
            [pa.array(list(parts), pa.int32()), pa.array(blobs, pa.binary())], names=[BUCKET, ROWS]
        )


def close(folder: str) -> None:
    """Say of a seed that all of it is there, and what that is."""
    root = place(folder)
    halves = [each for each in root.iterdir() if each.is_dir()]
    # Walked from a bucket on: the names of their folders begin as hidden ones do.
    buckets = [(f"{half.name}/{each.name}/", each) for half in halves for each in half.iterdir()]
    listed = {f"{name}{file.path}": file.size for name, at in buckets for file in walk(at)}
    listed |= {each.name: each.stat().st_size for each in root.iterdir() if each.is_file()}
    (root / WHOLE).write_text(json.dumps(listed), encoding="utf-8")


def missing(folder: str, below: str = "") -> str | None:
    """What keeps a stream from beginning with a seed, or with the files of it whose names begin with ``below``; None where nothing
    does, as far as files tell by their names and sizes.
    """
    root = place(folder)
    try:
        listed: dict[str, int] = json.loads((root / WHOLE).read_text(encoding="utf-8") or "{}")
    except FileNotFoundError:
        return "are not there any more"
    except ValueError:
        return f"are damaged: {WHOLE} is not what was written"
    for path, size in listed.items():
        if not path.startswith(below):
            continue
        file = root / path
        if not file.is_file():
            return f"are damaged: {path} is gone"
        if file.stat().st_size != size:
            return f"are damaged: {path} is not what was written"
    return None


def of_bucket(planting: Planting, bucket: int) -> tuple[list[pa.Table], list[pa.Table]]:
    """A bucket's states, and its rows that wait. Raises :class:`StateError` where the seed is not there, or not whole."""
    root = place(planting.folder)
    found = []
    for states in ("true", "false"):
        below = f"{STATES}={states}/{BUCKET}={bucket}/"
        why = missing(planting.folder, below)
        if why is not None:
            raise unfit(planting.folder, why)
        files = [root / below / each.path for each in walk(root / below) if each.path.endswith(".parquet")]
        try:
            # The file alone: its folders' names would be taken for columns.
            blobs = [
                blob
                for file in files
                for blob in pq.ParquetFile(parquet(file)).read([ROWS]).column(0).to_pylist()
            ]
            found.append([table_of(blob) for blob in blobs])
        except (OSError, ValueError, IndexError, pa.ArrowException) as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise unfit(planting.folder, f"are damaged: {below} cannot be read: {said}") from error
    return found[0], found[1]


def unfit(folder: str, why: str) -> StateError:
    """What is to be said of a seed that a stream cannot begin with."""
    return StateError(
        f"the states that the stream is to begin anew with {why}, in {folder}",
        next_step="restore that folder; or remove it and restart the stream anew, from the states of its table: tidemill restart",
        folder=folder,
    )
