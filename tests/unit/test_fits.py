"""Whether a batch follows what the table holds: the checkpoint, and the table, may have been put back from another time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidemill.config import parse_pipeline
from tidemill.errors import StateError
from tidemill.execution.fits import check_follows, check_same
from tidemill.ledger.coverage import Coverage


def end(offset: int) -> dict[str, Any]:
    return {"events": {"place": 0, "offset": {"clicks": {"0": offset}}}}


def stands(folder: Path, done: int | None, batch: int, reads: int) -> None:
    values = {
        "name": "clicks",
        "source": {"files": {"path": "in", "format": "json", "schema": "id STRING, at TIMESTAMP"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": "out"}},
    }
    known = Coverage() if done is None else Coverage(batch=done, source_end=end(70))
    pipeline = parse_pipeline(values, folder)
    check_follows(pipeline, done, batch)
    check_same(pipeline, known, batch, end(reads))


@pytest.mark.parametrize(("done", "batch", "reads"), [(None, 0, 7), (4, 5, 90), (4, 4, 70)])
def test_the_next_batch_follows_and_the_last_may_be_made_again(
    tmp_path: Path, done: int | None, batch: int, reads: int
):
    stands(tmp_path, done, batch, reads)


@pytest.mark.parametrize(
    ("done", "batch", "reads", "says"),
    [
        (9, 6, 90, "holds batch 9, and its checkpoint is about to run batch 6"),
        (9, 9, 90, "about to run that batch with other records"),
        (9, 0, 90, "about to run batch 0"),
        (4, 9, 90, "holds batch 4, and its checkpoint is about to run batch 9"),
        (None, 3, 90, "holds nothing yet"),
    ],
)
def test_any_other_is_of_another_time(tmp_path: Path, done: int | None, batch: int, reads: int, says: str):
    with pytest.raises(StateError, match=says) as refused:
        stands(tmp_path, done, batch, reads)
    assert "tidemill bootstrap clicks" in refused.value.next_step
