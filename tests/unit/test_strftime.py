"""The regular expression of a format finds those texts that Python reads as times, and no others."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidemill.quality.strftime import expression, problem

pieces = st.sampled_from([*(f"%{each}" for each in "YymbBdHIMSfpaA%"), " ", "  ", "\t", *"-/:.T01x+([日"])
formats = st.lists(pieces, min_size=1, max_size=6).map("".join)
numbers = st.sampled_from(
    [
        *map(str, range(62)),
        *(f"{n:02}" for n in range(10)),
        "0000",
        "1900",
        "2000",
        "2023",
        "2024",
        "031",
        "000001",
    ]
)
names = st.sampled_from(["Feb", "february", "JUN", "June", "may", "Sunday", "wed", "am", "PM", "%"])
texts = st.lists(
    numbers | names | st.sampled_from([" ", "-", "/", ":", ".", "T", "x", "日"]), max_size=8
).map("".join)


def read(text: str, form: str) -> bool:
    """As Python has it."""
    try:
        datetime.strptime(text, form)  # noqa: DTZ007  it is read, or raises
    except ValueError:
        return False
    return True


def found(text: str, form: str) -> bool:
    """As the expression has it."""
    regex = expression(form)
    assert regex is not None
    return re.search(regex, text, re.ASCII) is not None


@given(formats, st.data())
def test_what_the_expression_finds_is_what_python_reads(form: str, data: st.DataObject):
    # A directive that stands twice is none to Python either.
    assume(problem(form) is None)
    assume(expression(form) is not None)
    text = data.draw(texts | st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda at: at.strftime(form)))
    assert found(text, form) == read(text, form)


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d", "%y%m%d", "%d%m%Y", "%m/%d", "%d %b %Y", "%B %d, %y", "%m%d", "3%d%m", "%d%m"],
)
def test_every_day_in_every_width_is_a_date_or_none_as_python_has_it(form: str):
    widths = ("{:02}", "{}")
    assert not problem(form)
    for year, month, day in product(
        ("0000", "1900", "2000", "2023", "2024"), range(14), (0, 1, 2, 9, 10, *range(28, 33))
    ):
        for wide, other in product(widths, widths):
            parts = {
                "%Y": year,
                "%y": year[2:],
                "%m": wide.format(month),
                "%d": other.format(day),
                "%b": datetime(2024, month, 1).strftime("%b") if 0 < month <= 12 else "xyz",
                "%B": datetime(2024, month, 1).strftime("%B") if 0 < month <= 12 else "xyz",
            }
            text = form
            for directive, value in parts.items():
                text = text.replace(directive, value)
            assert found(text, form) == read(text, form), text


@pytest.mark.parametrize("form", ["%H:%M:%S", "%H%M%S.%f", "%I:%M:%S %p"])
def test_every_second_is_one_as_python_has_it(form: str):
    for text in (
        f"{hour}{separator}{minute:02}{separator}{second:02}{rest}"
        for hour, minute, second in product((0, 9, 12, 13, 24), (0, 59, 60), range(63))
        for separator in ("", ":")
        for rest in ("", ".5", " pm")
    ):
        assert found(text, form) == read(text, form), text


@pytest.mark.parametrize("form", ["%j", "%Y-%y", "%m %b", "%Z", "%G-%V-%u"])
def test_what_is_left_to_python(form: str):
    assert expression(form) is None
