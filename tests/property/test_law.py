"""The law: whatever a table has been through, an interval called clean holds exactly what it must."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.property.histories import History, histories
from tests.property.law import live_through
from tests.property.pipelines import CARRIED, KINDS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Every history is lived by all kinds of pipeline at once: 2 make 20 examples, 20 make 200.
HISTORIES = {"ci": 2, "nightly": 20}
PROFILE = os.environ.get("TIDEMILL_PROFILE", "ci")
LAW = settings(
    max_examples=int(os.environ.get("TIDEMILL_HISTORIES", HISTORIES[PROFILE])),
    deadline=None,
    print_blob=True,
    # A history takes half a minute: a failing one is better read than shrunk.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@LAW
@given(history=histories())
def test_what_is_called_clean_is_what_the_oracle_says(spark: SparkSession, history: History):
    with tempfile.TemporaryDirectory(prefix="tidemill-law-") as folder:
        live_through(history, Path(folder), spark, KINDS)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@settings(LAW, max_examples=max(1, LAW.max_examples // 3))
@given(history=histories())
def test_states_without_bound_are_carried_as_the_oracle_says(spark: SparkSession, history: History):
    with tempfile.TemporaryDirectory(prefix="tidemill-law-") as folder:
        live_through(history, Path(folder), spark, CARRIED)
