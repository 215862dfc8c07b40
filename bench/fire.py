"""The fault matrix, run and reported: ``python -m bench.fire [--full]``.

Runs ``tests/fire`` once a seed, and ends with 1 when a test failed, a row was not shown (its tests were skipped), or a
mutant survived. ``--full``: at length, hours; otherwise one seed, minutes, and nothing is written.

A full run goes seed by seed. What the tests of a green seed have seen is kept, with the commit that was checked out, as
soon as the seed ends; ``bench/results/fire.json`` and the table of ``docs/guarantees.md`` add up the newest three.
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
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fire.matrix import TITLES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results/fire.json"
SEEDS = ROOT / "bench/results/fire"
SHOWN = 3
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
    # Now: the results of the first seed are a difference to it.
    all_green, commit = True, _commit()
    for _ in range(SHOWN if options.full else 1):
        seed = secrets.randbelow(1 << 32)
        with tempfile.TemporaryDirectory() as out:
            code = _run(seed, Path(out), full=options.full)
            reports = [json.loads(path.read_text()) for path in sorted(Path(out).glob("*.json"))]
        green = not code and _told(added_up(reports, [seed]))
        if green and options.full:
            keep(SEEDS, {"seed": seed, "commit": commit, "ended": int(time.time()), "reports": reports})
            _write(kept(SEEDS))
        all_green &= green
    return 0 if all_green else 1


def _told(summary: Mapping[str, Any]) -> bool:
    """Print what a seed has shown; whether that is everything."""
    print(table(summary))
    print(f"mutants: {summary['mutants']['caught']} of {summary['mutants']['total']} caught", flush=True)
    missing = sorted(set(TITLES) - {row["row"] for row in summary["rows"]})
    if missing:
        print(f"not shown here: rows {', '.join(map(str, missing))}")
    return not (missing or summary["mutants"]["survivors"])


def keep(folder: Path, seed: Mapping[str, Any]) -> None:
    """Keep what one seed has shown, and of the others the newest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(_elsewhere(each)) for each in seed["reports"])
    head = json.dumps({name: value for name, value in seed.items() if name != "reports"})
    (folder / f"{seed['seed']}.json").write_text(
        f'{head[:-1]}, "reports": [\n{lines}\n]}}\n', encoding="utf-8"
    )
    shown = {each["seed"] for each in kept(folder)}
    for path in folder.glob("*.json"):
        if int(path.stem) not in shown:
            path.unlink()


def _elsewhere(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report as it reads on any machine: of a failure's text the first line, of a path in it the file's name."""
    return {
        name: re.sub(r"/\S*/", ".../", value.partition("\n")[0]) if isinstance(value, str) else value
        for name, value in report.items()
    }


def kept(folder: Path) -> list[dict[str, Any]]:
    """What the newest seeds have shown, oldest first."""
    seeds = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(seeds, key=lambda each: (each["ended"], each["seed"]))[-SHOWN:]


def _write(seeds: Sequence[Mapping[str, Any]]) -> None:
    summary = summary_of(seeds)
    RESULTS.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    GUARANTEES.write_text(with_table(GUARANTEES.read_text(encoding="utf-8"), summary), encoding="utf-8")


def summary_of(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What these seeds have shown together, and at which commits."""
    reports = [report for each in seeds for report in each["reports"]]
    return {
        **added_up(reports, [each["seed"] for each in seeds]),
        "commits": [each["commit"] for each in seeds],
    }


def _commit() -> str:
    """The commit that is checked out, with a plus where files differ from it; empty outside of a clone."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=7"],  # noqa: S607  git is git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()


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
    pairs = zip(summary["seeds"], summary["commits"], strict=True)
    seeds = ", ".join(f"{seed} at {commit}" for seed, commit in pairs)
    mutants = summary["mutants"]
    text = f"{table(summary)}\n\nSeeds: {seeds}. Guards removed: {mutants['total']}, noticed: {mutants['caught']}.\n"
    fresh, count = _TABLE.subn(lambda found: found[1] + text + found[2], page)
    if count != 1:
        msg = "the page has no place for the table"
        raise ValueError(msg)
    return fresh


if __name__ == "__main__":
    raise SystemExit(main())
