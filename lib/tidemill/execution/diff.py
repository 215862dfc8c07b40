"""What a run staged against what the table held then, as a value to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

from tidemill.display.changes import IntervalRow, rows_of
from tidemill.display.runs import diff_html
from tidemill.execution.runs import Manifest
from tidemill.view import View


@dataclass(frozen=True, slots=True)
class Diff(Sequence[Manifest]):
    """The chunks that a run staged, in order; in a notebook, a table of changes and some of the rows in pairs.

    ``key``: the columns by which rows of both sides belong together. ``outcomes``: of each chunk, ``published`` (and
    not taken back since), ``refused`` by the gate, or ``staged``. ``forced``: why the gate was overridden, where it was.
    """

    run: str
    pipeline: str
    key: tuple[str, ...]
    manifests: tuple[Manifest, ...]
    outcomes: tuple[str, ...]
    forced: str | None = None

    @classmethod
    def of(cls, view: View, run: str, manifests: Iterable[Manifest]) -> Diff:
        """The diff of a run whose chunks these are."""
        chunks = tuple(manifests)
        outcomes = tuple(_outcome(chunk, view) for chunk in chunks)
        return cls(
            run, view.pipeline.name, view.pipeline.table.key, chunks, outcomes, _forced(run, chunks, view)
        )

    @property
    def rows(self) -> tuple[IntervalRow, ...]:
        """Every interval: its rows, how many are added, removed and changed, and what became of them."""
        both = zip(self.manifests, self.outcomes, strict=True)
        return tuple(row for manifest, outcome in both for row in rows_of(manifest, outcome))

    @overload
    def __getitem__(self, index: int) -> Manifest: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Manifest]: ...
    def __getitem__(self, index: int | slice) -> Manifest | Sequence[Manifest]:
        return self.manifests[index]

    def __len__(self) -> int:
        return len(self.manifests)

    def _repr_html_(self) -> str:
        return diff_html(self)


def _forced(run: str, manifests: Iterable[Manifest], view: View) -> str | None:
    """Why the run was published past the gate, by what the table holds of it; None where it was not."""
    known = view.coverage.intervals
    held = (known[label] for manifest in manifests for label in manifest.labels if label in known)
    return next((each.forced for each in held if each.run == run and each.forced), None)


def _outcome(manifest: Manifest, view: View) -> str:
    known = view.coverage.intervals
    if any(known[label].run == manifest.run for label in manifest.labels if label in known):
        return "published"
    return "refused" if manifest.refused else "staged"
