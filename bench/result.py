"""A benchmark's result: one ratio with its spread, and the target it is held against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal, Self

from bench.machine import Machine

RESULTS = Path(__file__).resolve().parent / "results"
Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Result:
    """``ratio``: the median over pairs; ``low``, ``high``: the least and the greatest pair.

    ``same_results``: both sides were compared row by row before a time counted. ``cpu_ratio``: CPU seconds
    of all processes of one side against the other's. Either is None where there is nothing to compare.
    """

    name: str
    ratio: float
    low: float
    high: float
    target: float
    better: Better
    pairs: int
    same_results: bool | None
    cpu_ratio: float | None
    machine: Machine

    @classmethod
    def of_pairs(
        cls,
        name: str,
        ratios: Sequence[float],
        *,
        target: float,
        better: Better,
        machine: Machine,
        same_results: bool | None = None,
        cpu_ratios: Sequence[float] = (),
    ) -> Self:
        """The result of measured pairs. Raises ValueError when there is none.

        >>> from bench.machine import this_machine
        >>> r = Result.of_pairs("x", [0.3, 0.1, 0.2], target=0.25, better="lower", machine=this_machine())
        >>> r.ratio, r.low, r.high, r.pairs, r.met
        (0.2, 0.1, 0.3, 3, True)
        """
        if not ratios:
            msg = f"{name}: nothing was measured"
            raise ValueError(msg)
        return cls(
            name=name,
            ratio=round(median(ratios), 4),
            low=round(min(ratios), 4),
            high=round(max(ratios), 4),
            target=target,
            better=better,
            pairs=len(ratios),
            same_results=same_results,
            cpu_ratio=round(median(cpu_ratios), 4) if cpu_ratios else None,
            machine=machine,
        )

    @property
    def met(self) -> bool:
        """Whether the ratio reaches the target, with the same results on both sides."""
        reached = self.ratio <= self.target if self.better == "lower" else self.ratio >= self.target
        return reached and self.same_results is not False


def write(results: Sequence[Result], benchmark: str, folder: Path = RESULTS) -> Path:
    """Write a benchmark's results as ``folder/<benchmark>.json``, a list; give the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{benchmark}.json"
    path.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    return path
