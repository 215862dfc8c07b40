"""The short way to see a time in a text takes no text that Python does not read."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidemill.quality.strftime import _plain, problem

pieces = st.sampled_from(
    ["%Y", "%y", "%m", "%d", "%H", "%I", "%M", "%S", "%f", "%%", " ", "  ", "\t", *"-/:.T01x+([日"]
)
formats = st.lists(pieces, min_size=1, max_size=6).map("".join)


@given(formats, st.data())
def test_what_is_plainly_a_time_is_one_to_python(form: str, data: st.DataObject):
    # A directive that stands twice is none to Python either.
    assume(problem(form) is None)
    plain = _plain(form)
    assert plain is not None
    text = data.draw(st.from_regex(plain.replace(r"\z", r"\Z")))
    datetime.strptime(text, form)  # noqa: DTZ007  it is read, or raises


@pytest.mark.parametrize("form", ["%d %b", "%A", "%I:%M %p", "%j", "%B %%"])
def test_names_and_days_of_the_year_are_left_to_the_long_way(form: str):
    assert _plain(form) is None
