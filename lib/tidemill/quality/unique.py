"""Whether keys repeat in the rows that were written: read from the files, of the key's columns alone. No Spark job.

A stream cannot say that a value is unique in the table, only within what it looks at; so a suite says how far that is
(``meta: {within: batch}`` or ``interval``). As in GX, every row of a repeated key is unexpected, and a row without any of
the key's values is not looked at. Memory holds the key's columns of what is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill.ledger.verdicts import Result
from tidemill.model import Expectation, Suite
from tidemill.model.expectations import Runs
from tidemill.model.quality import Within
from tidemill.quality.verdict import Counted
from tidemill.sinks.files import DataFile
from tidemill.storage import Place, parquet, place


def unique_in_batch(
    suite: Suite, root: str, files: Sequence[DataFile], live: Mapping[str, Sequence[DataFile]]
) -> tuple[Result, ...]:
    """What is found of a live batch's ``files``; ``live``: the files that stand in each of its intervals."""
    return tuple(
        _result(each, [[*files]] if each.within is Within.BATCH else _by_label(files, live), root)
        for each in suite.that_run(Runs.FILES)
    )


def unique_in_intervals(suite: Suite, root: str, files: Sequence[DataFile]) -> tuple[Result, ...]:
    """What is found of a chunk's ``files``: each interval, whole, by itself."""
    return tuple(_result(each, _by_label(files, {}), root) for each in suite.that_run(Runs.FILES))


def _by_label(files: Iterable[DataFile], live: Mapping[str, Sequence[DataFile]]) -> list[Sequence[DataFile]]:
    found: dict[str, list[DataFile]] = {}
    for file in files:
        found.setdefault(file.label, [*live.get(file.label, ())]).append(file)
    return list(found.values())


def _result(each: Expectation, parts: Iterable[Sequence[DataFile]], root: str) -> Result:
    counts = [repeated([place(root) / file.path for file in part], each.columns) for part in parts if part]
    rows, looked_at, unexpected = (
        (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    )
    met = Counted(each, rows, looked_at, unexpected).met
    return Result(each.id, met, rows, looked_at, unexpected)


def repeated(files: Iterable[Place], columns: Sequence[str]) -> tuple[int, int, int]:
    """Of the rows of parquet files: how many they are, how many have a key, and of those how many share it with another.

    A file from before a column was added has no values of it.
    """
    keys = pa.concat_tables([_keys(file, columns) for file in files], promote_options="permissive")
    there = [pc.is_valid(keys[name]) for name in columns]
    any_there = there[0]
    for each in there[1:]:
        any_there = pc.or_(any_there, each)
    counted = keys.filter(any_there).group_by(list(columns)).aggregate([([], "count_all")])["count_all"]
    looked_at = pc.sum(counted).as_py() or 0
    return keys.num_rows, looked_at, looked_at - (pc.sum(pc.equal(counted, 1)).as_py() or 0)


def _keys(file: Place, columns: Sequence[str]) -> pa.Table:
    with pq.ParquetFile(parquet(file)) as opened:
        held = set(opened.schema_arrow.names)
        found = opened.read(columns=[name for name in columns if name in held])
        rows = opened.metadata.num_rows
    values = [_as_compared(found[name]) if name in held else pa.nulls(rows) for name in columns]
    return pa.table(values, names=list(columns))


def _as_compared(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values of which those are equal, to the bit, that are equal in Spark: 0.0 and -0.0, and whatever is no number."""
    if not pa.types.is_floating(values.type):
        return values
    nan, zero = (pa.scalar(each, values.type) for each in (float("nan"), 0.0))
    return pc.if_else(pc.is_nan(values), nan, pc.add(values, zero))
