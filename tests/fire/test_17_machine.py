"""Row 17: a random mixture of everything, drawn by hypothesis; the law after each step."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.fire.matrix import Tally
from tests.fire.mill import ENDLESS, LIVE_POINTS, NAMES, RESTART_POINTS, Mill
from tests.fire.tank import STORE
from tests.profile import FULL
from tidemill import CommitConflict, PlanError
from tidemill.ledger.judge import NOT_CLEAN
from tidemill.planning.selection import Request
from tidemill.testing import Point, listening

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.row(17), pytest.mark.timeout(3600)]
# The long profile has three seeds.
SECONDS = int(os.environ.get("TIDEMILL_MACHINE_SECONDS", "300" if FULL else "30"))
SWAP_POINTS = (
    Point.PLAN_SAVED, Point.CHUNK_STAGED, Point.MANIFEST_SAVED, Point.GATE_PASSED, Point.QUARANTINE_SETTLED,
    Point.COMMIT_CHECKED, Point.COMMIT_WRITTEN, Point.COMMITTED, Point.CHUNK_SWAPPED,
)  # fmt: skip


# A fold that never forgets takes its time.
BURNT = (*NAMES, ENDLESS) if FULL else NAMES


class Died(BaseException):
    """This process's stand-in for a crash: it unwinds, where kill -9 does not. Rows 1 and 2 kill in earnest."""


class Machine(RuleBasedStateMachine):
    """What people, sources and bad luck do to pipelines; at length to a fold that never forgets and to an event store, too."""

    spark: SparkSession
    tally: Tally
    seed: int

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="tidemill-machine-")
        # An event store is only run, changed and kept: nothing of it is computed again.
        names = (*BURNT, STORE) if FULL else BURNT
        self.mill = Mill(Path(self._folder.name), self.spark, self.seed, self.tally, names=names)
        self.runs: list[str] = []
        self.mill.arrive(1)
        self.mill.run()

    @rule(files=st.integers(1, 2), poison=st.booleans(), hours=st.sampled_from([1, 5, 40]))
    def arrive(self, files: int, poison: bool, hours: int) -> None:  # noqa: FBT001  hypothesis draws it
        self.mill.arrive(files, poison=int(poison), back=timedelta(hours=hours))

    @rule()
    def run(self) -> None:
        self.mill.run()
        self.mill.check()
        self.mill.check_quarantine()

    @rule(point=st.sampled_from(LIVE_POINTS))
    def run_and_die(self, point: Point) -> None:
        with listening(_dying(point)):
            self.mill.engine.run(*self.mill.names)
        self.mill.check()

    @rule(name=st.sampled_from(BURNT), open_too=st.booleans())
    def repair(self, name: str, open_too: bool) -> None:  # noqa: FBT001  hypothesis draws it
        open_too = open_too and name != ENDLESS
        done = self.mill.engine.backfill(name, Request(states=NOT_CLEAN, include_open=open_too))
        self.runs += [done.run] if done.chunks else []
        self.mill.check()

    @precondition(lambda self: ENDLESS in self.mill.names)
    @rule(point=st.sampled_from((None, *RESTART_POINTS)))
    def begin_anew(self, point: Point | None) -> None:
        # Refused where something is to be repaired first.
        with suppress(PlanError, Died), listening(_dying(point)):
            self.mill.engine.restart(ENDLESS)
        self.mill.check()

    @rule(name=st.sampled_from(BURNT), point=st.sampled_from(SWAP_POINTS), open_too=st.booleans())
    def repair_and_die(self, name: str, point: Point, open_too: bool) -> None:  # noqa: FBT001  hypothesis draws it
        open_too = open_too and name != ENDLESS
        try:
            with listening(_dying(point)):
                self.mill.engine.backfill(name, Request(states=NOT_CLEAN, include_open=open_too))
        except Died:
            folder = self.mill.folder / f"data/{name}/_tidemill/runs"
            self.runs.append(max(path.name for path in folder.iterdir()))
        self.mill.check()

    @precondition(lambda self: bool(self.runs))
    @rule(
        what=st.sampled_from(["undo", "publish", "resume"]),
        point=st.sampled_from((None, Point.CHUNK_UNDONE, Point.QUARANTINE_SETTLED)),
        data=st.data(),
    )
    def by_hand(self, what: str, point: Point | None, data: Any) -> None:
        run = data.draw(st.sampled_from(self.runs))
        # Refused where what it would replace is gone, or the code is another.
        with suppress(CommitConflict, PlanError, Died), listening(_dying(point)):
            getattr(self.mill.engine, what)(run)
        self.mill.check()

    @rule()
    def change_code(self) -> None:
        self.mill.use(self.mill.factor + 1)
        self.mill.check()

    @rule()
    def maintain(self) -> None:
        for name in self.mill.names:
            self.mill.engine.maintain(name, retention_hours=24)
        self.mill.check()

    def teardown(self) -> None:
        try:
            self.mill.settle()
        finally:
            self._folder.cleanup()


def _dying(point: Point | None) -> Any:
    def listen(at: Point) -> None:
        if at is point:
            raise Died

    return listen


def test_a_random_mixture_of_everything(spark: SparkSession, tally: Tally, seed: int) -> None:
    Machine.spark, Machine.tally, Machine.seed = spark, tally, seed
    end = time.monotonic() + SECONDS
    steps = settings(
        max_examples=1,
        stateful_step_count=12,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    # One example at a time, each with a seed of its own: a machine takes half a minute.
    while time.monotonic() < end:
        with_seed(Machine.seed)(Machine)
        run_state_machine_as_test(Machine, settings=steps)
        Machine.seed += 1
