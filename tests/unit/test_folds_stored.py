"""What a stream has stored for a fold, and what is said where today's code cannot go on from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import parse_pipeline
from tidemill.errors import StateError
from tidemill.execution.folds import Folded
from tidemill.execution.stored import check_stored, stored_of
from tidemill.ledger import folds
from tidemill.ledger.coverage import Coverage
from tidemill.model import Pipeline

HOUR = 3_600_000_000
BEFORE = Folded(
    name="Tally",
    horizon=None,
    buckets=16,
    emit="ordered",
    key=("user",),
    state={"n": "int64", "total": "int64"},
    renamed={},
    rows={"user": "string", "cents": "int64"},
    zero={"n": "0", "total": "0"},
)
RUN = Coverage(query="q", batch=1, stateful=True, watermark=1)
"""Of a stream that has stepped rows."""
AFTER = replace(BEFORE, state={"total": "int64"}, zero={"total": "0"})


def pipeline(root: Path, **special: Any) -> Pipeline:
    values = {
        "name": "tally",
        "source": {"files": {"path": "in", "format": "json", "schema": "user STRING, at TIMESTAMP"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "transform": lambda events: events,
        "sink": {"delta": {"path": "out", "state": "state"}},
        **special,
    }
    return parse_pipeline(values, root)


def begun(root: Path, **special: Any) -> tuple[Pipeline, str]:
    """A pipeline whose stream has begun with the fold, and its checkpoint."""
    found = pipeline(root, **special)
    checkpoint = Path(found.table.state_path) / "checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "metadata").write_text(json.dumps({"id": "q"}))
    folds.write(found.table.state_path, stored_of(BEFORE))
    return found, str(checkpoint)


REFUSED = [
    (AFTER, "n is not there any more", "put it back, or say what it is called now"),
    (replace(AFTER, renamed={"sum": "n"}), "n is not there any more", "put it back, or say"),
    (replace(BEFORE, state={"n": "int64", "total": "int32"}), "total is int32", "keep the type"),
    (replace(BEFORE, rows={"user": "string", "cents": "string"}), "a row: cents is string", "keep the type"),
    (replace(BEFORE, key=("user", "at")), "began with key user in 16", "put it back"),
    (replace(BEFORE, buckets=8), "and now it is user in 8", "put it back"),
    (replace(BEFORE, zero={"n": "1", "total": "0"}), "zero() gives 1 for n", "begin otherwise in step()"),
]


@pytest.mark.parametrize(("fold", "says", "next_step"), REFUSED)
def test_a_change_that_nothing_stored_can_be_read_as_names_what_leads_on(
    tmp_path: Path, fold: Folded, says: str, next_step: str
):
    books, checkpoint = begun(tmp_path)
    with pytest.raises(StateError) as caught:
        check_stored(books, fold, checkpoint, RUN)
    assert says in caught.value.message
    assert next_step in caught.value.next_step
    assert caught.value.next_step.endswith(
        "or have the stream begin anew, with states that today's code makes: "
        "tidemill backfill tally --dirty --stale --missing, then tidemill restart tally"
    )
    assert folds.read(books.table.state_path) == stored_of(BEFORE)


@pytest.mark.parametrize(
    ("special", "change", "next_step"),
    [
        # States of a horizon alone are made of rows: nothing has to be backfilled first.
        ({"lookback": "1h"}, {"horizon": HOUR}, "makes: tidemill restart tally"),
        ({"lookback": "1h"}, {"horizon": HOUR, "emit": "immediate"}, "move the table and its state"),
        ({"interval": "all"}, {}, "move the table and its state"),
    ],
)
def test_what_cannot_begin_anew_where_it_stands_is_not_told_to(
    tmp_path: Path, special: dict[str, Any], change: dict[str, Any], next_step: str
):
    books, checkpoint = begun(tmp_path, **special)
    with pytest.raises(StateError) as caught:
        check_stored(books, replace(AFTER, **change), checkpoint, RUN)
    assert next_step in caught.value.next_step
    assert ("restart" in caught.value.next_step) is ("restart" in next_step)


@pytest.mark.parametrize("fold", [each[0] for each in REFUSED])
def test_what_the_stream_begins_anew_with_takes_the_place_of_what_was_stored(tmp_path: Path, fold: Folded):
    books, checkpoint = begun(tmp_path)
    seed = tmp_path / "seed"
    seed.mkdir()
    folds.write_seed(str(seed), stored_of(fold))
    sown = folds.read_seed(str(seed))
    for _ in range(2):  # its first batch is tried again
        check_stored(books, fold, checkpoint, RUN, sown)
        stored = folds.read(books.table.state_path)
        assert stored is not None
        # The buckets that there were are to be emptied, each time.
        assert (replace(stored, most=0), stored.ever) == (stored_of(fold), 16)
    check_stored(books, fold, checkpoint, RUN)
    # From then on what it began with is what the others have to go on from.
    if fold is AFTER:
        check_stored(
            books, replace(BEFORE, state={"n": "string", "total": "int64"}, zero=AFTER.zero), checkpoint, RUN
        )
    with pytest.raises(StateError):
        check_stored(books, replace(BEFORE, key=("id",)), checkpoint, RUN)


def test_a_seed_of_before_this_was_kept_says_nothing(tmp_path: Path):
    assert folds.read_seed(str(tmp_path)) is None


def test_what_was_never_published_and_states_that_no_row_was_stepped_to_bind_nobody(tmp_path: Path):
    books, checkpoint = begun(tmp_path)
    waiting = replace(RUN, watermark=None)
    check_stored(books, replace(AFTER, zero={"total": "3"}), checkpoint, waiting)
    # The rows that wait are there, in their buckets.
    for fold in (replace(AFTER, buckets=8), replace(AFTER, rows={"user": "int64"})):
        with pytest.raises(StateError, match="fold Tally: ") as caught:
            check_stored(books, fold, checkpoint, waiting)
        assert "move the table and its state" in caught.value.next_step
    begun(tmp_path)
    with pytest.raises(StateError, match="n is not there"):
        check_stored(books, replace(AFTER, emit="immediate"), checkpoint, waiting)
    # Its first batch failed: Spark begins it anew, from nothing.
    check_stored(books, replace(AFTER, buckets=8), checkpoint, Coverage())
    assert folds.read(books.table.state_path) == stored_of(replace(AFTER, buckets=8))
