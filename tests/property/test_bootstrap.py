"""The law of tables that were bootstrapped: all kinds of pipeline, on random histories."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.property.histories import good, history
from tests.property.law import World
from tests.property.pipelines import KINDS
from tests.property import oracle
from tests.property.pipelines import RULED

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.spark
@pytest.mark.parametrize("seed", [3, 1017])
def test_a_bootstrapped_table_keeps_the_law(spark: SparkSession, tmp_path: Path, seed: int):
    lived = history(seed)
    world = World(tmp_path, spark, KINDS, lived.files_per_batch)
    for number, each in enumerate(lived.rounds):
        world.use(each.code)
        if number == 0:
            world.bootstrap(*each.files)
        else:
            world.arrive(*each.files)
        world.check(f"round {number}, live")
        world.check_counts(f"round {number}")
    world.do("repair")
    world.check("repaired")
    world.check_repaired("repaired")
    world.do("open")
    world.check_whole("filled in")
    world.check_quarantine("filled in")
