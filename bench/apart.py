"""Runs one benchmark in a process of its own, on a scratch folder that goes with it."""

from __future__ import annotations

import importlib
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench.result import Result


def measured(name: str, *, quick: bool) -> tuple[Result, ...]:
    """The results of ``bench.<name>``. A new process: no benchmark inherits another's heap, caches or threads."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, name, quick=quick).result()


def _measure(name: str, *, quick: bool) -> tuple[Result, ...]:
    with tempfile.TemporaryDirectory(prefix=f"tidemill-bench-{name}-", ignore_cleanup_errors=True) as scratch:
        found: tuple[Result, ...] = importlib.import_module(f"bench.{name}").run(Path(scratch), quick=quick)
        return found
