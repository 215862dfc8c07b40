"""A gate's limits against what a staged chunk changes. Pure: values in, words out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from tidemill.execution.runs import Manifest
from tidemill.ledger.facts import IntervalResult
from tidemill.model import Gate, Pipeline
from tidemill.planning.gates import percent


@dataclass(frozen=True, slots=True)
class _Moved:
    """How the rows of one interval move. ``before``: those that stand."""

    before: int
    vanish: int
    appear: int
    change: int

    @classmethod
    def of(cls, each: IntervalResult, changed: int | None) -> _Moved:
        """Rows vanish when their key does; without a key (``changed`` is None), when fewer come than go."""
        both = min(each.added, each.removed) if changed is None else changed
        return cls(_before(each), each.removed - both, each.added - both, both)


def beyond(pipeline: Pipeline, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What of each interval changes more than the pipeline's gate allows: its label, and what that is."""
    gate = pipeline.gate
    for label, each in manifest.results.items():
        if not (each.added or each.removed) or not _before(each):
            continue
        changed = manifest.changed.get(label, 0) if pipeline.table.key else None
        moved = _Moved.of(each, changed)
        found = [*_beyond_rows(gate, moved)]
        if _is_judged(gate, manifest, label):
            found += [*_beyond_share(gate, moved), *_drift(gate, manifest, label)]
        yield from ((label, problem) for problem in found)


def not_judged(pipeline: Pipeline, manifest: Manifest) -> list[str]:
    """The columns whose share of nulls has a limit, and of which no statistics tell it; a line each."""
    gate = pipeline.gate
    intervals = {label: nulls for label, nulls in manifest.nulls.items() if _is_judged(gate, manifest, label)}
    columns = list(dict.fromkeys(column for nulls in intervals.values() for column in nulls))
    unknown = [
        f"{column}: no statistics tell its nulls in {', '.join(labels[:3])}{' ...' if len(labels) > 3 else ''}"
        for column in columns
        if gate.null_drift_of(column) is not None
        and (labels := [label for label, nulls in intervals.items() if None in nulls.get(column, ())])
    ]
    named = [column for column in gate.limits_of_columns if column not in columns]
    return unknown + [f"{column}: there is no such column" for column in named if intervals]


def _beyond_share(gate: Gate, moved: _Moved) -> Iterator[str]:
    for rows, limit, what in (
        (moved.vanish, gate.max_removed, f"of {moved.before} rows would vanish"),
        (moved.appear, gate.max_added, f"rows would appear beside {moved.before}"),
        (moved.change, gate.max_changed, f"of {moved.before} rows would change"),
    ):
        if limit is not None and rows > _exact(limit) * moved.before:
            yield f"{rows} {what} (limit {percent(limit)})"


def _beyond_rows(gate: Gate, moved: _Moved) -> Iterator[str]:
    for rows, limit, what in (
        (moved.vanish, gate.max_removed_rows, "vanish"),
        (moved.appear, gate.max_added_rows, "appear"),
        (moved.change, gate.max_changed_rows, "change"),
    ):
        if limit is not None and rows > limit:
            yield f"{rows} rows would {what} (limit {limit})"


def _drift(gate: Gate, manifest: Manifest, label: str) -> Iterator[str]:
    result = manifest.results[label]
    for column, (stood, staged) in manifest.nulls.get(label, {}).items():
        limit = gate.null_drift_of(column)
        if limit is None or stood is None or staged is None or not result.rows:
            continue
        was, would = Fraction(stood, _before(result)), Fraction(staged, result.rows)
        if abs(would - was) > _exact(limit):
            yield (
                f"{column} would be null in {percent(float(would))} of the rows, and is in {percent(float(was))} "
                f"(limit {percent(limit)} apart)"
            )


def _is_judged(gate: Gate, manifest: Manifest, label: str) -> bool:
    return _before(manifest.results[label]) >= gate.min_rows


def _before(each: IntervalResult) -> int:
    return each.rows - each.added + each.removed


def _exact(share: float) -> Fraction:
    # As it is written: 29 of 100 rows are not more than 29 %, though 0.29 * 100 is less than 29.
    return Fraction(repr(share))
