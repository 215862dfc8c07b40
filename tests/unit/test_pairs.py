"""Differing rows in pairs: which rows belong together, and in what they differ."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidemill.display.pairs import paired, telling_columns

EWR = {"window_start": "2013-01-01T18:15:00.000Z", "origin": "EWR"}
KEY = ("window_start", "origin")


def sample(number: int, label: str = "2013-01-01", **fields: Any) -> dict[str, Any]:
    return {"interval": label, "rows": number, "row": json.dumps(fields)}


OLD, NEW = sample(-1, **EWR, flights=11, mean=16.25), sample(1, **EWR, flights=12, mean=39.0)


def test_rows_with_the_same_key_are_a_pair() -> None:
    other = sample(-1, window_start="2013-01-01T18:15:00.000Z", origin="JFK", flights=11, mean=16.25)
    alone, pair = paired([other, OLD, NEW], KEY)
    assert (alone.after, alone.differing) == (None, frozenset())
    assert pair.differing == {"flights", "mean"}


def test_a_null_differs_from_a_value() -> None:
    (pair,) = paired([sample(-1, id=1), sample(1, id=1, v=2)], ["id"])
    assert pair.differing == {"v"}


def test_without_a_key_the_most_alike_are_a_pair_if_half_of_them_is_equal() -> None:
    old = sample(-1, a=1, b=2, c=3, d=4)
    near, far, stranger = (
        sample(1, a=1, b=2, c=3, d=5),
        sample(1, a=1, b=2, c=9, d=9),
        sample(1, a=1, b=7, c=7, d=7),
    )
    pair, *alone = paired([old, far, stranger, near])
    assert pair.differing == {"d"}
    assert [each.before for each in alone] == [None, None]


def test_rows_of_different_intervals_are_no_pair() -> None:
    assert len(paired([sample(-1, "2013-01-01", id=1), sample(1, "2013-01-02", id=1)], ["id"])) == 2


def test_only_columns_that_tell_something() -> None:
    assert telling_columns(paired([OLD, NEW], ["origin"]), ["origin"]) == ("origin", "flights", "mean")
    wide = [sample(n, a=1, b=2, c=3, d=4, e=5, f=6, g=n) for n in (-1, 1)]
    assert telling_columns(paired(wide)) == ("a", "b", "c", "d", "g")
    assert telling_columns(paired([OLD], ["origin"]), ["origin"]) == (
        "window_start",
        "origin",
        "flights",
        "mean",
    )


ROWS = st.fixed_dictionaries({"k": st.integers(0, 2), "v": st.integers(0, 2), "w": st.integers(0, 1)})
SAMPLES = st.lists(
    st.builds(
        lambda number, label, fields: sample(number, label, **fields),
        st.sampled_from([-2, -1, 1, 2]),
        st.sampled_from(["2013-01-01", "2013-01-02"]),
        ROWS,
    ),
    max_size=12,
)


@given(SAMPLES, st.sampled_from([(), ("k",), ("k", "w")]))
def test_every_row_is_shown_once_on_its_side(samples: list[dict[str, Any]], key: tuple[str, ...]) -> None:
    pairs = paired(samples, key)
    seen = [
        (pair.interval, side.times if sign == "+" else -side.times, json.dumps(side.fields))
        for pair in pairs
        for sign, side in pair.sides
    ]
    assert sorted(seen) == sorted((each["interval"], each["rows"], each["row"]) for each in samples)
    for pair in pairs:
        if pair.before and pair.after:
            assert all(pair.before.fields[name] == pair.after.fields[name] for name in key)
