"""One live run of 2,020 batches and more: whether the late ones take longer, and whether memory grows."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from bench.batches import CASES, pipeline_values
from bench.events import write_events
from bench.log import commit_times
from bench.machine import this_machine
from bench.processes import Watch, own_mib
from bench.result import Result
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.execution.session import build_session

BATCHES, ROWS = 2_030, 500
EARLY, LATE = range(80, 121), range(1_980, 2_021)
FIRST, LAST = range(20, 120), range(1_920, 2_020)
_QUICK_SHARE = 50


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Run, then read times from the log and memory from what was watched beside it."""
    share = _QUICK_SHARE if quick else 1
    batches = BATCHES // share + 2
    write_events(scratch / "in", files=batches, rows=ROWS, span=timedelta(minutes=5))
    spark = build_session("tidemill-bench")
    case = next(case for case in CASES if case.name == "stateless")
    pipeline = parse_pipeline(pipeline_values(case, "in", "table"), scratch)
    engine = Engine(Project(str(scratch), {pipeline.name: pipeline}), spark=spark)
    with Watch(own_mib, every=0.2) as watch:
        (outcome,) = engine.run(pipeline.name)
    if outcome.error is not None:
        raise outcome.error
    times = commit_times(scratch / "table")
    took = {batch: times[batch] - times[before] for before, batch in pairwise(sorted(times))}
    early, late = (median(took[b] for b in _scaled(r, share)) for r in (EARLY, LATE))
    first, last = (_memory(watch.seen, times, _scaled(r, share)) for r in (FIRST, LAST))
    print(f"growth: {early:.0f} ms early, {late:.0f} ms late; {first:.1f} MiB first, {last:.1f} MiB last")
    machine, whole = this_machine(), len(times) == batches
    return (
        Result.of_pairs(
            "growth time", [late / early], target=1.15, better="lower", machine=machine, same_results=whole
        ),
        Result.of_pairs(
            "growth memory", [last / first], target=1.05, better="lower", machine=machine, same_results=whole
        ),
    )


def _scaled(batches: range, share: int) -> range:
    start = max(1, batches.start // share)
    return range(start, max(start + 2, batches.stop // share))


def _memory(seen: list[tuple[float, float]], times: dict[int, int], batches: range) -> float:
    begin, end = times[batches.start], times[batches.stop - 1]
    within = [used for at, used in seen if begin <= at <= end]
    # A quick run may be over between two looks.
    return mean(within or [seen[-1][1]])
