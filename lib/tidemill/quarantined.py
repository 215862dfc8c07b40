"""What a pipeline's quarantine holds, read without a JVM."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.display.quarantined import quarantined_html
from tidemill.errors import PlanError
from tidemill.ledger import log
from tidemill.model import Pipeline
from tidemill.sinks.table import look


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, and how many rows of an input are set aside for it."""

    input: str
    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """One row that was set aside, as it came. ``input``: "" for a row of the table. ``at``: when, in ISO 8601; ``batch``:
    None for a backfill's; ``interval``: None for a row that cannot be read.
    """

    input: str
    reasons: tuple[str, ...]
    record: str | None
    file: str | None
    run: str
    batch: int | None
    at: str
    interval: str | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The rows of a pipeline's quarantine: how many for each reason (a row can have several), and a sample."""

    pipeline: str
    path: str
    rows: int
    reasons: tuple[Reason, ...]
    sample: tuple[SetAside, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return quarantined_html(self)


def quarantined(
    pipeline: Pipeline, *, reason: str | None = None, of_input: str | None = None, most: int = 10
) -> Quarantined:
    """Count the rows that were set aside, by reason, and show the ``most`` newest of them.

    ``reason``: a part of the reason's text; ``of_input``: the input's name. Raises :class:`PlanError` for an input that
    the pipeline does not have.
    """
    check_input(pipeline, of_input)
    path = pipeline.quarantine_path
    if not log.exists(path):
        return Quarantined(pipeline.name, path, 0, (), ())
    scanned = look(path).to_pyarrow_dataset()
    wanted = pc.field("input") == of_input if of_input is not None else None
    keys: Counter[tuple[str, str]] = Counter()
    rows, newest = 0, pa.table({"at": pa.array([], pa.timestamp("us", "UTC"))})
    # Batch by batch: a quarantine can be larger than memory, its newest rows are not.
    for batch in scanned.scanner(filter=wanted).to_batches():
        found = pa.Table.from_batches([batch])
        if reason is not None:
            found = found.filter(pc.match_substring(_joined(found), reason, ignore_case=True))
        if not found.num_rows:
            continue
        rows += found.num_rows
        keys.update(_keys(found))
        newest = _newest(newest, found, most)
    reasons = tuple(Reason(*key, count) for key, count in sorted(keys.items(), key=lambda e: (-e[1], e[0])))
    return Quarantined(pipeline.name, path, rows, reasons, tuple(_row(each) for each in newest.to_pylist()))


def check_input(pipeline: Pipeline, name: str | None) -> None:
    """Raise :class:`PlanError` where a pipeline has no such input that rows are set aside from; "" is its table."""
    if name is not None and name not in {"", *pipeline.moving}:
        raise PlanError(
            f"{pipeline.name} has no input {name!r} that rows are set aside from",
            next_step=f"its inputs: {', '.join(pipeline.moving)}",
        )


def held(pipeline: Pipeline) -> int:
    """How many rows the quarantine of a pipeline holds, by its log."""
    if not log.exists(pipeline.quarantine_path):
        return 0
    return int(look(pipeline.quarantine_path).to_pyarrow_dataset().count_rows())


def _joined(found: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join(found["reasons"], "\n")


def _keys(found: pa.Table) -> Counter[tuple[str, str]]:
    reasons = found["reasons"].combine_chunks()
    flat = pa.table(
        {
            "input": found["input"].combine_chunks().take(pc.list_parent_indices(reasons)),
            "reason": pc.list_flatten(reasons),
        }
    )
    counted = flat.group_by(["input", "reason"]).aggregate([([], "count_all")])
    return Counter({(row["input"], row["reason"]): row["count_all"] for row in counted.to_pylist()})


def _newest(before: pa.Table, found: pa.Table, most: int) -> pa.Table:
    both = pa.concat_tables([before, found], promote_options="default") if before.num_rows else found
    return both.take(pc.select_k_unstable(both, most, [("at", "descending")]))


def _row(row: dict[str, Any]) -> SetAside:
    return SetAside(
        input=row["input"],
        reasons=tuple(row["reasons"]),
        record=row["record"],
        file=row["file"],
        run=row["run"],
        batch=row["batch"],
        at=row["at"].isoformat(),
        interval=row.get("interval"),
    )
