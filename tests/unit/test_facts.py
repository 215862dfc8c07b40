"""Facts survive their journey through a commit, and stay small."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.ledger.facts import (
    Erased,
    Fact,
    IntervalResult,
    LiveBatch,
    Swap,
    Undo,
    from_json,
    to_json,
    with_counts,
)

names = st.text(max_size=12)
counts = st.integers(0, 2**53)
labels = st.text("0123456789-T", min_size=1, max_size=13)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
offsets = st.dictionaries(names, values, max_size=3)
per_label = st.dictionaries(labels, counts, max_size=4)
results = st.builds(IntervalResult, rows=counts, hash=st.none() | names, added=counts, removed=counts)

live = st.builds(
    LiveBatch,
    pipeline=names,
    run=names,
    fingerprint=names,
    query=names,
    batch=counts,
    source_start=offsets,
    source_end=offsets,
    stateful=st.booleans(),
    watermark=st.none() | st.integers(-(2**53), 2**53),
    input_rows=counts,
    quarantined=counts,
    added=per_label,
    removed=per_label,
    late=st.lists(labels, max_size=3).map(tuple),
    touched=st.lists(st.tuples(counts, counts), max_size=3).map(tuple),
    planted=st.none() | st.just("") | names,
    reach=st.none() | st.just((0, 0)) | st.tuples(counts, counts),
    beside=per_label,
    began=st.integers(-1, 2**53),
    opened=st.booleans(),
)
swaps = st.builds(
    Swap,
    pipeline=names,
    run=names,
    chunk=counts,
    fingerprint=names,
    pin=counts,
    source_end=offsets,
    intervals=st.dictionaries(labels, results, max_size=3),
    changed=st.booleans(),
    provisional=st.booleans(),
    forced=st.none() | st.text(min_size=1, max_size=20),
    beside=per_label,
    erased=st.lists(labels, max_size=3).map(tuple),
    opened=st.booleans(),
)
undos = st.builds(
    Undo,
    pipeline=names,
    run=names,
    chunk=counts,
    intervals=st.dictionaries(labels, st.integers(-(2**53), 2**53), max_size=3),
)


erasures = st.builds(
    Erased,
    pipeline=names,
    run=names,
    intervals=st.lists(labels, max_size=3).map(tuple),
    seen=counts,
    gone=st.booleans(),
)


@settings(max_examples=50)
@given(live | swaps | undos | erasures)
def test_a_fact_reads_back_as_it_was_written(fact: Fact):
    assert from_json(to_json(fact)) == fact


@settings(max_examples=50)
@given(live | swaps | undos | erasures)
def test_a_fact_is_one_line_of_text(fact: Fact):
    assert "\n" not in to_json(fact)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "a note by a person",
        "{",
        "[]",
        "7",
        '"tidemill"',
        "{}",
        '{"tidemill":0,"kind":"live"}',
        '{"tidemill":2,"kind":"live"}',
        '{"tidemill":"1","kind":"undo"}',
        '{"tidemill":1,"kind":"of another age"}',
        '{"tidemill":1}',
        '{"tidemill":1,"kind":"live"}',
        '{"tidemill":1,"kind":"swap","intervals":7}',
        '{"tidemill":1,"kind":"undo","surprise":1}',
    ],
)
def test_metadata_of_others_is_no_fact(text: str | None):
    assert from_json(text) is None


def test_a_swap_of_before_reasons_were_kept_is_still_read():
    text = (
        '{"changed":true,"chunk":0,"fingerprint":"f","intervals":{"2013-01-01":{"added":1,"rows":1}},'
        '"kind":"swap","pin":3,"pipeline":"p","run":"r","source_end":{},"tidemill":1}'
    )
    assert from_json(text) == Swap("p", "r", 0, "f", 3, {}, {"2013-01-01": IntervalResult(1, added=1)})


def test_a_swap_that_was_not_forced_says_nothing_of_it():
    swap = Swap("p", "r", 0, "f", 3, {}, {})
    assert "forced" not in to_json(swap)
    assert json.loads(to_json(replace(swap, forced="the feed was down")))["forced"] == "the feed was down"


def typical() -> LiveBatch:
    """A batch in the middle of a stream over files and a table, late rows and all."""
    end = {
        "flights": {"place": 0, "offset": {"logOffset": 123_456}},
        "weather": {
            "place": 1,
            "offset": {
                "sourceVersion": 1,
                "reservoirId": "0b4e1ab5-4b8d-4f7e-9a4e-3a1b4b1d8e5f",
                "reservoirVersion": 98_765,
                "index": -1,
                "isStartingVersion": False,
            },
        },
    }
    return LiveBatch(
        pipeline="departure_delays",
        run="20130105T131500-a1b2c3",
        fingerprint="0123456789abcdef",
        query="5d0a5e5e-3b5e-4d2e-9d3c-6a1f0c9b8e7d",
        batch=123_456,
        source_start=end,
        source_end=end,
        stateful=True,
        watermark=1_357_391_700_000,
        input_rows=20_000,
        quarantined=12,
        added={f"2013-01-{day:02}T{hour:02}": 1234 for day in range(1, 3) for hour in range(24)},
        late=tuple(f"2013-01-05T{hour:02}" for hour in range(24)),
        touched=tuple((1_357_391_700 + i * 7200, 1_357_391_700 + i * 7200 + 600) for i in range(32)),
    )


def test_a_typical_live_fact_is_smaller_than_4_kilobytes():
    assert len(to_json(typical()).encode()) < 4096


def test_what_is_as_usual_is_not_written():
    quiet = LiveBatch("p", "r", "f", "q", 1, {}, {}, stateful=False)

    assert json.loads(to_json(quiet)).keys() == {
        "tidemill", "kind", "pipeline", "run", "fingerprint", "query", "batch", "source_start", "source_end",
        "stateful", "input_rows", "quarantined",
    }  # fmt: skip


def test_counts_are_filled_in_without_touching_the_rest():
    before = typical()

    after = with_counts(before, {"2013-01-05": 3}, {"2013-01-05": 1})

    assert (after.added, after.removed) == ({"2013-01-05": 3}, {"2013-01-05": 1})
    assert with_counts(after, before.added, before.removed) == before
