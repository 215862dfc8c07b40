"""The gate on values: what of a chunk is beyond which limit, and what a person says to override it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.errors import PlanError, QualityError
from tidemill.execution.gate import check_gate, let_pass
from tidemill.execution.limits import beyond, not_judged
from tidemill.execution.runs import Manifest
from tidemill.ledger.facts import IntervalResult
from tidemill.model import Gate, Pipeline
from tidemill.planning.gates import LONGEST_WHY, forced, limits

DAY, NEXT = "2024-01-01", "2024-01-02"
Nulls = dict[str, tuple[int | None, int | None]]


def pipeline(key: tuple[str, ...] = (), **gate: Any) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "feed",
            "source": {"delta": {"path": "in"}},
            "event_time": {"column": "at"},
            "interval": "day",
            "sink": {"delta": {"path": "out", "key": key}},
            "gate": gate,
        }
    )


def staged(
    before: int,
    *,
    added: int = 0,
    removed: int = 0,
    changed: int = 0,
    nulls: Nulls | None = None,
    provisional: bool = False,
) -> Manifest:
    result = IntervalResult(before + added - removed, None, added, removed)
    return Manifest(
        "r1", 0, "f", 3, {}, provisional, (DAY,), (), (), {DAY: result},
        changed={DAY: changed} if changed else {}, nulls={DAY: nulls} if nulls else {},
    )  # fmt: skip


def refused(manifest: Manifest, key: tuple[str, ...] = (), **gate: Any) -> list[str]:
    return [problem for _, problem in beyond(pipeline(key, **gate), manifest)]


# What is set, what happens to 200 rows, and what the gate says of it.
LIMITS: dict[str, tuple[dict[str, Any], dict[str, int], list[str]]] = {
    "a share may vanish": ({}, {"removed": 40}, []),
    "and no row more": ({}, {"removed": 41}, ["41 of 200 rows would vanish (limit 20%)"]),
    "no limit on what vanishes": ({"max_removed": None}, {"removed": 200}, []),
    "a number may vanish": ({"max_removed_rows": 7}, {"removed": 7}, []),
    "and not one more": ({"max_removed_rows": 7}, {"removed": 8}, ["8 rows would vanish (limit 7)"]),
    "share and number each for itself": (
        {"max_removed_rows": 7},
        {"removed": 41},
        ["41 rows would vanish (limit 7)", "41 of 200 rows would vanish (limit 20%)"],
    ),
    "as many again may appear": ({"max_added": "100%"}, {"added": 200}, []),
    "and no more": (
        {"max_added": "100%"},
        {"added": 201},
        ["201 rows would appear beside 200 (limit 100%)"],
    ),
    "a number may appear": ({"max_added_rows": 0}, {"added": 1}, ["1 rows would appear (limit 0)"]),
    "a share may change": ({"max_changed": 0.1}, {"added": 20, "removed": 20, "changed": 20}, []),
    "and no other": (
        {"max_changed": 0.1},
        {"added": 21, "removed": 21, "changed": 21},
        ["21 of 200 rows would change (limit 10%)"],
    ),
    "a number may change": (
        {"max_changed_rows": 3},
        {"added": 9, "removed": 4, "changed": 4},
        ["4 rows would change (limit 3)"],
    ),
    "what changes neither vanishes nor appears": (
        {"max_removed": 0, "max_added": 0},
        {"added": 200, "removed": 200, "changed": 200},
        [],
    ),
    "29 of 100 are not more than 29 %": ({"max_removed": "29%"}, {"removed": 58}, []),
}


@pytest.mark.parametrize("case", LIMITS)
def test_rows_that_vanish_appear_and_change_have_limits(case: str):
    gate, moved, said = LIMITS[case]
    assert refused(staged(200, **moved), ("id",), **gate) == said


def test_without_a_key_rows_change_as_far_as_as_many_come_as_go():
    manifest = staged(200, added=30, removed=50)
    assert refused(manifest, max_removed="10%", max_changed="15%", max_added=0) == []
    assert refused(manifest, max_removed_rows=19, max_changed_rows=29) == [
        "20 rows would vanish (limit 19)",
        "30 rows would change (limit 29)",
    ]


def test_few_rows_are_judged_by_numbers_alone_and_none_by_nothing():
    drift: Nulls = {"v": (0, 9)}
    small = staged(99, added=900, removed=90, nulls=drift)
    every = {"max_added": 0, "max_null_drift": 0, "max_added_rows": 800}
    assert refused(small, **every) == ["810 rows would appear (limit 800)"]
    assert len(refused(small, min_rows=99, **every)) == 3
    assert refused(staged(0, added=900), min_rows=0, **every) == []


def test_an_equal_interval_is_not_judged_and_an_open_one_neither():
    drift: Nulls = {"v": (0, 200)}
    assert refused(staged(200, nulls=drift), max_null_drift=0) == []
    check_gate(pipeline(max_null_drift=0), staged(200, added=1, removed=200, nulls=drift, provisional=True))


def test_the_share_of_nulls_may_drift_so_far_column_by_column():
    # Of 200 rows, 10 go: 190 stay.
    nulls: Nulls = {"v": (20, 0), "tailnum": (20, 114), "notes": (0, 190), "id": (0, 0)}
    manifest = staged(200, removed=10, nulls=nulls)
    assert refused(manifest) == []
    assert refused(manifest, max_null_drift={"default": "10%", "tailnum": "50%", "notes": None}) == []
    assert refused(manifest, max_null_drift={"default": "9.99%", "tailnum": "49.9%", "notes": 1}) == [
        "v would be null in 0% of the rows, and is in 10% (limit 9.99% apart)",
        "tailnum would be null in 60% of the rows, and is in 10% (limit 49.9% apart)",
    ]
    assert refused(manifest, max_null_drift={"notes": "99%"}) == [
        "notes would be null in 100% of the rows, and is in 0% (limit 99% apart)"
    ]


@given(st.integers(100, 300), st.integers(1, 300), st.integers(0, 100), st.data())
def test_a_drift_of_the_limit_is_none_beyond_it(before: int, rows: int, limit: int, data: st.DataObject):
    stood, now = data.draw(st.integers(0, before)), data.draw(st.integers(0, rows))
    manifest = staged(before, added=rows, removed=before, changed=0, nulls={"v": (stood, now)})
    apart = abs(Fraction(now, rows) - Fraction(stood, before))
    said = refused(manifest, ("id",), max_removed=None, max_null_drift=f"{limit}%")
    assert bool(said) == (apart > Fraction(limit, 100))


def test_what_no_statistics_tell_is_said_and_not_guessed():
    nulls: Nulls = {"tags": (None, None), "old": (None, 3), "v": (0, 0), "free": (None, None)}
    gate = {"max_null_drift": {"default": 0, "free": None, "typo": "5%"}}
    manifest = staged(200, added=1, nulls=nulls)
    assert refused(manifest, **gate) == []
    assert not_judged(pipeline(**gate), manifest) == [
        f"tags: no statistics tell its nulls in {DAY}",
        f"old: no statistics tell its nulls in {DAY}",
        "typo: there is no such column",
    ]
    assert not_judged(pipeline(), manifest) == []
    # An interval that is too small for shares has nothing to be said of.
    assert not_judged(pipeline(min_rows=201, **gate), manifest) == []


def test_a_refusal_names_run_chunk_and_intervals_and_the_way_out():
    rows = IntervalResult(60, None, 0, 40)
    manifest = Manifest("r1", 1, "f", 3, {}, False, (DAY, NEXT), (), (), {DAY: rows, NEXT: rows})
    with pytest.raises(QualityError) as error:
        check_gate(pipeline(max_removed_rows=3), manifest)
    assert error.value.message.startswith("feed: the gate refused run r1, chunk 2: 2024-01-01: 40 rows")
    assert error.value.params == {"run": "r1", "intervals": [DAY, NEXT]}
    assert 'tidemill publish r1 --force --why "..."' in error.value.next_step


def test_a_refusal_of_many_intervals_says_how_many_more():
    labels = tuple(f"2024-01-{day:02}" for day in range(1, 31))
    results = dict.fromkeys(labels, IntervalResult(60, None, 0, 40))
    manifest = Manifest("r1", 0, "f", 3, {}, False, labels, (), (), results)
    with pytest.raises(QualityError) as error:
        check_gate(pipeline(), manifest)
    assert error.value.message.endswith("2024-01-20: 40 of 100 rows would vanish (limit 20%); and 10 more")
    assert error.value.params["intervals"] == list(labels)


def test_a_reason_overrides_a_refusal_and_is_kept_only_where_there_was_one():
    fine, bad = staged(200, removed=1), staged(200, removed=100)
    assert let_pass(pipeline(), fine, "the feed was down") is None
    assert let_pass(pipeline(), bad, "the feed was down") == "the feed was down"
    with pytest.raises(QualityError):
        let_pass(pipeline(), bad, None)


@pytest.mark.parametrize("why", [None, "", " \n"])
def test_force_needs_a_reason(why: str | None):
    with pytest.raises(PlanError, match="needs a reason") as refusal:
        forced(force=True, why=why)
    assert (refusal.value.exit_code, "--why" in refusal.value.next_step) == (2, True)


def test_a_reason_needs_force_and_fits_a_commit():
    with pytest.raises(PlanError, match="nothing is forced"):
        forced(force=False, why="it is right")
    with pytest.raises(PlanError, match="501 letters"):
        forced(force=True, why="x" * (LONGEST_WHY + 1))
    assert forced(force=True, why="one\n  line") == "one line"


def test_a_gate_says_what_it_allows():
    assert list(limits(Gate())) == ["at most 20% may vanish (intervals of 100 rows and more)"]
    assert list(limits(Gate(max_removed=None))) == []
    gate = pipeline(
        max_removed="0.5%", max_added="150%", max_changed=0.05, max_removed_rows=500, max_added_rows=10_000,
        max_changed_rows=0, max_null_drift={"default": "5%", "notes": None}, min_rows=7,
    ).gate  # fmt: skip
    assert list(limits(gate)) == [
        "at most 0.5% may vanish, at most 150% may appear, at most 5% may change (intervals of 7 rows and more)",
        "at most 500 rows may vanish, at most 10,000 rows may appear, at most 0 rows may change (each interval)",
        "the share of nulls may drift in any column by 5%, notes as it likes (intervals of 7 rows and more)",
    ]
