"""Differing rows on a terminal: below each other, with what differs standing out, in whatever room there is."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from tidemill.cli.rows import Rows
from tidemill.display.pairs import paired


def sample(number: int, **fields: Any) -> dict[str, Any]:
    return {"interval": "2013-01-01", "rows": number, "row": json.dumps(fields)}


OLD = sample(-1, at="18:15", origin="EWR", flights=11, mean=16.25)
NEW = sample(1, at="18:15", origin="EWR", flights=12, mean=39.0)
KEY = ("at", "origin")


def printed(*samples: dict[str, Any], width: int = 80) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(Rows(paired(samples, KEY), KEY))
    return [line.rstrip() for line in captured.get().splitlines()]


def styles(*samples: dict[str, Any]) -> list[tuple[str, str]]:
    console = Console(width=80)
    return [
        (segment.text.strip(), str(segment.style))
        for segment in console.render(Rows(paired(samples, KEY), KEY))
        if segment.text.strip() and segment.style
    ]


def test_a_pair_is_told_in_columns() -> None:
    assert printed(OLD, NEW) == [
        "   interval    at     origin  flights   mean",
        "-  2013-01-01  18:15  EWR          11  16.25",
        "+  2013-01-01  18:15  EWR          12   39.0",
    ]


def test_what_differs_stands_out_and_what_is_equal_recedes() -> None:
    found = styles(OLD, NEW)
    assert ("12", "bold underline green") in found
    assert ("16.25", "bold underline red") in found
    assert [style for text, style in found if text == "EWR"] == ["dim", "dim"]


def test_a_row_that_stands_alone_is_told_whole_and_plain() -> None:
    twice = sample(2, id=1, origin="EWR")
    assert printed(twice) == ["      interval    id  origin", "+ x2  2013-01-01   1  EWR"]
    assert not [style for text, style in styles(twice) if text in {"1", "EWR"}]


def test_where_not_all_columns_have_room_those_that_differ_are_told() -> None:
    same = {"carrier": "a long name of an airline", "plane": "a long name of a plane"}
    wide = [
        sample(-1, at="18:15", origin="EWR", v=1, **same),
        sample(1, at="18:15", origin="EWR", v=2, **same),
    ]
    assert printed(*wide, width=60) == [
        "   interval    at     origin  v",
        "-  2013-01-01  18:15  EWR     1",
        "+  2013-01-01  18:15  EWR     2",
        "and 2 columns in which no row differs",
    ]


def test_where_there_is_room_for_no_columns_fields_are_told_one_after_the_other() -> None:
    assert printed(OLD, NEW, width=38) == [
        "-  2013-01-01  at=18:15  origin=EWR",
        "               flights=11  mean=16.25",
        "+  2013-01-01  at=18:15  origin=EWR",
        "               flights=12  mean=39.0",
    ]
