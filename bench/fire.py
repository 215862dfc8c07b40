"""The fault matrix, run and reported: ``python -m bench.fire [--full]``.

Runs ``tests/fire`` once a seed, adds up what its tests have seen, and writes ``bench/results/fire.json`` and the table
of ``docs/guarantees.md``. Ends with 1 when a test failed, a row was not shown (its tests were skipped), or a mutant survived. ``--full``: three seeds at length,
hours; otherwise one seed, minutes, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fire.matrix import TITLES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results/fire.json"
GUARANTEES = ROOT / "docs/guarantees.md"
_SUMS = ("runs", "kills", "lost", "doubled", "mixed_reads", "reads", "replayed")
_TABLE = re.compile(r"(<!-- fire: begin -->\n).*?(<!-- fire: end -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; 0 when it is green and every mutant was caught."""
    parser = argparse.ArgumentParser(prog="python -m bench.fire", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="three seeds, the long profile; writes the results"
    )
    options = parser.parse_args(arguments)
    seeds = [secrets.randbelow(1 << 32) for _ in range(3 if options.full else 1)]
    reports: list[dict[str, Any]] = []
    codes = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as out:
            codes.append(_run(seed, Path(out), full=options.full))
            reports += [json.loads(path.read_text()) for path in sorted(Path(out).glob("*.json"))]
    summary = added_up(reports, seeds)
    print(table(summary))
    print(f"mutants: {summary['mutants']['caught']} of {summary['mutants']['total']} caught")
    missing = sorted(set(TITLES) - {row["row"] for row in summary["rows"]})
    if missing:
        print(f"not shown here: rows {', '.join(map(str, missing))}")
    green = not (any(codes) or missing or summary["mutants"]["survivors"])
    if options.full and green:
        RESULTS.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        GUARANTEES.write_text(with_table(GUARANTEES.read_text(encoding="utf-8"), summary), encoding="utf-8")
    return 0 if green else 1


def _run(seed: int, out: Path, *, full: bool) -> int:
    print(f"seed {seed}", flush=True)
    environment = {
        **os.environ,
        "TIDEMILL_SEED": str(seed),
        "TIDEMILL_FIRE_OUT": str(out),
        "TIDEMILL_PROFILE": "nightly" if full else "ci",
    }
    command = [sys.executable, "-m", "pytest", "-q", "tests/fire"]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def added_up(reports: Iterable[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """What the tests of each row have seen together, and which mutants were caught (by every seed)."""
    rows: dict[int, dict[str, Any]] = {}
    mutants: dict[str, bool] = defaultdict(lambda: True)
    for each in reports:
        if "mutant" in each:
            mutants[each["mutant"]] &= each["caught"]
        elif not each["test"].startswith("test_the_attack_is_noticed"):
            row = rows.setdefault(
                each["row"], {"row": each["row"], "title": each["title"], **dict.fromkeys(_SUMS, 0)}
            )
            for name in _SUMS:
                row[name] += each[name]
            for name in ("retries_max", "recovery_s_max"):
                row[name] = max(row.get(name, 0), round(each[name], 1))
    survivors = sorted(name for name, caught in mutants.items() if not caught)
    return {
        "rows": [rows[number] for number in sorted(rows)],
        "mutants": {"total": len(mutants), "caught": len(mutants) - len(survivors), "survivors": survivors},
        "seeds": list(seeds),
    }


def table(summary: Mapping[str, Any]) -> str:
    """The rows of the matrix as a table in Markdown."""
    lines = [
        "| row | fault | runs | kills | lost | doubled | mixed reads | retries, most | seconds to recover, most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    names = (
        "row",
        "title",
        "runs",
        "kills",
        "lost",
        "doubled",
        "mixed_reads",
        "retries_max",
        "recovery_s_max",
    )
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in summary["rows"]]
    return "\n".join(lines)


def with_table(page: str, summary: Mapping[str, Any]) -> str:
    """The page with the summary's table between its markers.

    Raises ValueError when the page has no markers.
    """
    seeds = ", ".join(map(str, summary["seeds"]))
    mutants = summary["mutants"]
    text = f"{table(summary)}\n\nSeeds {seeds}. Guards removed: {mutants['total']}, noticed: {mutants['caught']}.\n"
    fresh, count = _TABLE.subn(lambda found: found[1] + text + found[2], page)
    if count != 1:
        msg = "the page has no place for the table"
        raise ValueError(msg)
    return fresh


if __name__ == "__main__":
    raise SystemExit(main())
