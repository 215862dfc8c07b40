"""The law of tables that were bootstrapped: all kinds of pipeline, on a random history."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.property.histories import history
from tests.property.law import World
from tests.property.pipelines import KINDS
from tidemill.ledger.judge import State

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# The longest by far is what the kinds take one after the other: all of them are for the night.
NIGHTLY = os.environ.get("TIDEMILL_PROFILE") == "nightly"
SOME = KINDS if NIGHTLY else ("tumbling", "dedup", "newest")
SEEDS = [int(seed) for seed in os.environ.get("TIDEMILL_SEEDS", "3").split(",")]


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_bootstrapped_table_keeps_the_law(spark: SparkSession, tmp_path: Path, seed: int):
    lived = history(seed)
    world = World(tmp_path, spark, SOME, lived.files_per_batch)
    *before, last = lived.rounds
    world.use(before[-1].code)
    world.bootstrap(*(file for each in before for file in each.files), newest_first=True, chunk=2)
    world.check("bootstrapped")
    world.check_counts("bootstrapped")
    # What a stream has sealed, history holds.
    assert world.states("tumbling")[min(world.wanted("tumbling"))] is State.CLEAN

    world.use(last.code)
    world.arrive(*last.files)
    world.check("live")
    world.check_counts("live")
    world.do("repair")
    world.check("repaired")
    world.check_repaired("repaired")
    world.do("open")
    world.check_whole("filled in")
    world.check_quarantine("filled in")
