"""Run the benchmarks: ``python -m bench [NAME...] [--quick]``.

Each runs in a process of its own, on scratch data in a temporary folder. ``--quick`` runs tiny sizes, to see
that everything works; its numbers mean nothing and are not kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.apart import measured
from bench.result import Result, write

NAMES = (
    "batches", "backfill", "bootstrap", "status", "growth", "memory", "quality", "kafka", "folds", "convergence",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is named, or all; 0 when every target is met, or when it was only a quick look."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes no results")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    results: list[Result] = []
    for name in options.names or NAMES:
        found = measured(name, quick=options.quick)
        if not options.quick:
            write(found, name)
        results += found
    Console().print(_page(results))
    return 0 if options.quick or all(result.met for result in results) else 1


def _page(results: Sequence[Result]) -> Table:
    table = Table(title="benchmarks", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column in ("name", "ratio", "spread", "target", "pairs", "CPU", "same rows", ""):
        table.add_column(column)
    for result in results:
        table.add_row(
            result.name,
            f"{result.ratio:.3f}",
            f"{result.low:.3f} - {result.high:.3f}",
            f"{'≤' if result.better == 'lower' else '≥'} {result.target:.2f}",
            str(result.pairs),
            "" if result.cpu_ratio is None else f"{result.cpu_ratio:.2f}",
            "" if result.same_results is None else ("yes" if result.same_results else "NO"),
            "[green]met[/]" if result.met else "[red]not met[/]",
        )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
