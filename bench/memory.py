"""The memory of the demo: a driver, a live process beside it and all they start, counted together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.machine import this_machine
from bench.processes import Watch, tree_gib
from bench.result import Result
from tidemill.execution import jars

PROJECT = Path(__file__).resolve().parent.parent
LIMIT_GIB = 3
DAYS, QUICK_DAYS = 3, 2


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Run the demo on a copy of the project, and watch it."""
    copy = scratch / "project"
    for part in ("conf", "jobs", "lib"):
        shutil.copytree(PROJECT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"TIDEMILL_JARS": str(jars.folder()), "PYTHONPATH": f"{copy / 'lib'}:{copy}"}
    command = [sys.executable, "-m", "jobs.demo", "--days", str(QUICK_DAYS if quick else DAYS)]
    with (scratch / "demo.log").open("w", encoding="utf-8") as output:
        demo = subprocess.Popen(command, cwd=copy, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            with Watch(lambda: tree_gib(demo.pid), every=0.5) as watch:
                code = demo.wait()
        finally:
            demo.terminate()
    if code != 0:
        print((scratch / "demo.log").read_text(encoding="utf-8"))
    print(f"memory: at most {watch.peak:.2f} GiB, the demo ended with {code}")
    return (
        Result.of_pairs(
            "memory",
            [watch.peak / LIMIT_GIB],
            target=1.0,
            better="lower",
            machine=this_machine(),
            # The demo verifies its tables against a fresh computation, and says so by its exit code.
            same_results=code == 0,
        ),
    )
