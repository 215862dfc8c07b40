"""Whether what a batch leaves out of an input is what was found of it to set aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.config import parse_pipeline
from tidemill.errors import StateError
from tidemill.execution.counts import check_aside
from tidemill.ledger.facts import LiveBatch


@pytest.mark.parametrize("found", [0, 3, 5])
def test_a_batch_that_finds_other_rows_to_set_aside_than_it_counted_is_refused(tmp_path: Path, found: int):
    values = {
        "name": "clicks",
        "source": {"files": {"path": "in", "format": "json", "schema": "id STRING, at TIMESTAMP"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": "out"}},
    }
    pipeline = parse_pipeline(values, tmp_path)
    fact = LiveBatch("clicks", "r", "c", "q", 7, {}, {}, stateful=False)

    check_aside(pipeline, fact, "events", 4, 4)
    with pytest.raises(
        StateError, match=f"batch 7 leaves out 4 rows of events .* and {found} were found"
    ) as refused:
        check_aside(pipeline, fact, "events", 4, found)
    assert refused.value.next_step
