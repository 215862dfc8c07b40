"""A backfill from cron: started twice at once, killed once, started again. The work is done once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.flights_events import write_events
from tests.scenarios.processes import flights_project
from tidemill import Engine
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.facts import Swap
from tidemill.ledger.judge import State
from tidemill.testing import Process

pytestmark = pytest.mark.spark


# The guide's cron line, word for word.
CRON = ("backfill", "delays", "--dirty", "--stale", "--missing", "--yes")


def _swaps(project: Path) -> Counter[str]:
    """How often each day was swapped, by the table's own log."""
    commits = log.commits_after(str(project / "data/tables/delays"), -1, Grain.DAY)
    return Counter(label for c in commits if isinstance(c.fact, Swap) for label in c.fact.intervals)


@pytest.mark.timeout(600)
def test_two_at_once_and_one_killed_do_the_work_once(tmp_path: Path, spark: SparkSession) -> None:
    project = flights_project(tmp_path)
    write_events(project / "data/flights", days=1)
    engine = Engine(project, spark=spark)
    engine.run("delays")
    dirty = engine.coverage("delays").in_state(State.DIRTY)
    assert dirty

    lease = project / "data/tables/delays/_tidemill/backfill.lease"
    killed = Process(project, "cli", *CRON)
    killed.wait_until(lease.exists, "the lease")
    killed.kill()

    first, second = Process(project, "cli", *CRON), Process(project, "cli", *CRON)
    codes = sorted([first.wait(), second.wait()])
    # At once, one is told who holds the lease (2); a moment later it would have found nothing to do (0).
    assert codes in ([0, 2], [0, 0])
    assert engine.coverage("delays").in_state(State.DIRTY) == ()
    assert _swaps(project) == Counter(dirty)
    assert Process(project, "cli", *CRON).wait() == 0
    assert _swaps(project) == Counter(dirty)
