"""Checkpoint, table and source must belong together; a live driver must be alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.scenarios.test_bad_input import Feed, as_they_come, lines
from tidemill import LeaseHeld, StateError
from tidemill.ledger.lease import Lease
from tidemill.planning.selection import Request

pytestmark = pytest.mark.spark


@pytest.fixture
def feed(tmp_path: Path, spark: SparkSession) -> Feed:
    """A feed that has published one batch."""
    feed = Feed(tmp_path, spark)
    feed.put(lines(1, 2))
    assert feed.run() is None
    return feed


def test_a_lost_checkpoint_is_refused_and_nothing_is_doubled(feed: Feed) -> None:
    shutil.rmtree(feed.root / "table/_tidemill/checkpoint")
    error = feed.run()
    assert isinstance(error, StateError)
    assert "is gone" in error.message
    assert feed.ids() == [1, 2]


def test_another_tables_checkpoint_is_refused(feed: Feed, tmp_path: Path, spark: SparkSession) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stranger = Feed(other, spark)
    stranger.put(lines(9))
    assert stranger.run() is None
    shutil.rmtree(feed.root / "table/_tidemill/checkpoint")
    shutil.copytree(other / "table/_tidemill/checkpoint", feed.root / "table/_tidemill/checkpoint")
    error = feed.run()
    assert isinstance(error, StateError)
    assert feed.ids() == [1, 2]


def test_a_moved_source_folder_is_refused_and_nothing_is_doubled(feed: Feed) -> None:
    shutil.copytree(feed.root / "in", feed.root / "elsewhere")
    source = {"files": {"path": "elsewhere", "format": "json", "schema": "id INT, at TIMESTAMP, v INT"}}
    feed.use(as_they_come, source=source)
    error = feed.run()
    assert isinstance(error, StateError)
    assert "elsewhere" in error.message
    assert feed.ids() == [1, 2]


def test_a_table_that_lives_by_backfills_is_not_streamed_into(tmp_path: Path, spark: SparkSession) -> None:
    feed = Feed(tmp_path, spark)
    feed.put(lines(1, 2))
    feed.engine.backfill("feed", Request.between("2024-05-01", "2024-05-02"))
    error = feed.run()
    assert isinstance(error, StateError)
    assert feed.ids() == [1, 2]


def test_a_second_live_driver_is_told_who_holds_the_lease(feed: Feed) -> None:
    state = str(feed.root / "table/_tidemill")
    with Lease(state, "live", what="run one"), pytest.raises(LeaseHeld, match="run one") as refused:
        feed.run()
    assert refused.value.exit_code == 2
    assert "--take-over" in refused.value.next_step
    assert feed.run() is None


def test_an_output_that_does_not_fit_the_table_is_refused_before_anything_is_read(feed: Feed) -> None:
    feed.use(lambda events: events.withColumnRenamed("v", "w"))
    feed.put(lines(3))
    error = feed.run()
    assert isinstance(error, StateError)
    assert "without v" in error.message
    assert feed.ids() == [1, 2]
