"""What is remembered of an upstream table: the same as its whole log says, however it was read and cleaned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tidemill.intervals import Grain
from tidemill.ledger import changes, log
from tidemill.ledger.changes import EVERYWHERE, Change, Changes
from tidemill.ledger.facts import (
    Commit,
    Expired,
    Fact,
    Foreign,
    IntervalResult,
    LiveBatch,
    Rearranged,
    Swap,
    Undo,
    to_json,
)

D1, D2 = "2013-01-01", "2013-01-02"
FACTS: list[Fact] = [
    LiveBatch("p", "r", "f", "q", 0, {}, {}, stateful=False, added={D1: 2}),
    LiveBatch("p", "r", "f", "q", 1, {}, {}, stateful=False, added={D2: 2}, removed={D1: 1}),
    Swap("p", "r", 0, "f", 1, {}, {D1: IntervalResult(1, "h", 1, 0), D2: IntervalResult(1, "h")}),
    Undo("p", "r", 0, {D2: 1}),
    Swap("p", "r", 1, "f", 1, {}, {D2: IntervalResult(1, "h", 1, 0)}, changed=False, erased=(D2,)),
]
SAID = Changes(
    since=-1,
    version=4,
    replaced={D1: Change(2, "was backfilled"), D2: Change(3, "had a backfill undone")},
    appended={D1: Change(0, "has new rows"), D2: Change(1, "has new rows")},
    erased={D2: Change(4, "was computed again without an erased person")},
    gone={D1: Change(1, "was updated"), D2: Change(3, "had a backfill undone")},
)


def write(table: Path, version: int, fact: Fact) -> None:
    folder = log.log_folder(str(table))
    folder.mkdir(parents=True, exist_ok=True)
    body = {"commitInfo": {"timestamp": version, "userMetadata": to_json(fact)}}
    (folder / f"{version:020d}.json").write_text(json.dumps(body))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for version, fact in enumerate(FACTS):
        write(tmp_path / "table", version, fact)
    return tmp_path / "table"


def read(table: Path) -> Changes:
    return changes.read(str(table / "below"), str(table), Grain.DAY)


def remember(table: Path) -> None:
    changes.remember(str(table / "below"), str(table), Grain.DAY)


def clean(table: Path, until: int) -> None:
    for version in range(until):
        (log.log_folder(str(table)) / f"{version:020d}.json").unlink()


def test_the_last_change_of_each_interval_is_what_counts(table: Path):
    assert read(table) == SAID
    assert not (table / "below").exists()


@pytest.mark.parametrize("until", [2, 4, 5])
def test_what_is_remembered_outlives_the_log(table: Path, until: int):
    for version in range(5, 8):
        write(table, version, Rearranged())
    remember(table)
    clean(table, until)
    write(table, 8, LiveBatch("p", "r", "f", "q", 2, {}, {}, stateful=False, added={D1: 2}))

    after = read(table)

    assert (after.since, after.version) == (-1, 8)
    assert after.replaced == SAID.replaced
    assert after.appended == {**SAID.appended, D1: Change(8, "has new rows")}


def test_of_what_was_remembered_before_it_said_which_rows_went_all_that_was_replaced_may_have(table: Path):
    remember(table)
    path = table / "below/upstream.json"
    body = json.loads(path.read_text())
    del body[str(table)]["changes"]["gone"]
    path.write_text(json.dumps(body))
    clean(table, 5)
    write(table, 5, Rearranged())

    assert read(table).gone == SAID.replaced


def test_where_the_log_was_cleaned_before_anyone_looked_it_is_said(table: Path):
    clean(table, 3)
    assert read(table) == Changes(
        2, 4, {D2: Change(3, "had a backfill undone")}, {}, SAID.erased, {D2: SAID.gone[D2]}
    )


def test_what_was_remembered_before_a_gap_still_holds(table: Path):
    remember(table)
    for version in range(5, 9):
        write(table, version, FACTS[0])
    clean(table, 8)

    after = read(table)

    assert (after.since, after.version) == (7, 8)
    assert after.replaced == SAID.replaced


def test_another_table_at_the_same_place_is_not_taken_for_this_one(table: Path):
    remember(table)
    write(table, 4, Undo("p", "r", 0, {D1: 1}))

    assert read(table).replaced[D1] == Change(4, "had a backfill undone")


def test_rows_went_where_something_took_them_away_and_not_where_some_came():
    def after(*facts: Fact) -> Changes:
        return changes.fold_all(Changes(), [Commit(version, 0, fact) for version, fact in enumerate(facts)])

    filled = Swap("p", "r", 0, "f", 0, {}, {D1: IntervalResult(1, "h", 1, 0)})
    replaced = Swap("p", "r", 0, "f", 0, {}, {D1: IntervalResult(1, "h", 1, 1), D2: IntervalResult(1, "h")})
    equal = replace(replaced, changed=False)
    expired = Expired("p", 60, {D2: 3}, {})

    assert not after(FACTS[0], filled, equal, Foreign("WRITE", (D1,), replaced=False)).lost_rows
    for fact, labels in ((replaced, {D1}), (expired, {D2}), (Foreign("DELETE", None), {EVERYWHERE})):
        assert after(filled, fact).gone.keys() == labels
        assert after(filled, fact).lost_rows
    assert after(filled, expired).replaced.keys() == {D1}
    assert Changes(since=2, version=2).lost_rows


def test_a_change_that_cannot_be_placed_is_one_of_everything():
    after = changes.fold_all(Changes(), [Commit(0, 0, Foreign("DELETE", None))])

    assert after.replaced == {EVERYWHERE: Change(0, "was changed by DELETE")}
