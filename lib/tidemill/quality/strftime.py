"""Whether a text is a time in one of Python's ``strftime`` formats, without Python.

Source: `_strptime._strptime` of CPython, which makes a regular expression of the format, wants it to end where the text
ends, and then a date that there is. Formats of the common directives become Spark's own expressions; the others are left
to Python, in a function that Spark calls.
"""

from __future__ import annotations

import re
from _strptime import TimeRE  # type: ignore[import-not-found]  # the standard library's, without stubs
from datetime import datetime

from pyspark.sql import Column
from pyspark.sql import functions as F

_NATIVE = frozenset("YymbBdHIMSfpaA%")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SHORT = (4, 6, 9, 11)
_FEBRUARY = 2
_LAST_SECOND = 59
_LAST_OF_2000S = 68
"""POSIX: of two digits, up to here a year is of this century."""


def problem(form: str) -> str | None:
    """Why no text can be read with a format; None when texts can."""
    try:
        datetime.strptime(datetime(2001, 2, 3, 4, 5, 6).strftime(form), form)  # noqa: DTZ001, DTZ007  of no zone
    except (ValueError, re.error) as error:
        return str(error)
    return None


def matches(value: Column, form: str) -> Column:
    """Whether each text is a time of this format; null where the text is."""
    if set(re.findall(r"%(.)", form, re.DOTALL)) <= _NATIVE:
        exact = F.coalesce(_Parts(value, form).a_time, F.lit(False))
        plain = _plain(form)
        if plain is None:
            return F.when(value.isNotNull(), exact)
        # What is plainly a time is most of what there is, and needs no parts.
        return F.when(value.rlike(plain), F.lit(True)).when(value.isNotNull(), exact)
    return F.udf(lambda text: None if text is None else _readable(text, form), "boolean")(value)


_PLAIN = {
    "Y": "(?!0000)[0-9]{4}",
    "y": "[0-9]{2}",
    "m": "(?:0[1-9]|1[0-2])",
    # Every month has so many days.
    "d": "(?:0[1-9]|1[0-9]|2[0-8])",
    "H": "(?:[01][0-9]|2[0-3])",
    "I": "(?:0[1-9]|1[0-2])",
    "M": "[0-5][0-9]",
    "S": "[0-5][0-9]",
    "f": "[0-9]{6}",
    "%": "%",
}
"""Directives at their full width. Python tries that first, so that it reads these texts in this way and in no other."""


def _plain(form: str) -> str | None:
    """A regular expression of Java's that only times of this format match, not all of them; None where there is none."""
    parts = []
    for part in re.findall(r"%.|\s+|.", form, re.DOTALL):
        if part[0] == "%":
            if part[1] not in _PLAIN:
                return None
            parts.append(_PLAIN[part[1]])
        else:
            parts.append(" " if part.isspace() else re.escape(part))
    return f"^{''.join(parts)}\\z"


def _readable(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)  # noqa: DTZ007  what is asked is whether it can be read
    except ValueError:
        return False
    return True


class _Parts:
    """The parts of a text that a format tells apart, as columns."""

    def __init__(self, value: Column, form: str) -> None:
        python = TimeRE().pattern(form)
        self._value = value
        self._groups: dict[str, int] = dict(re.compile(python, re.IGNORECASE).groupindex)
        self._java = "^(?iu:" + python.replace("(?P<", "(?<") + ")"

    def _text(self, name: str) -> Column:
        return F.regexp_extract(self._value, self._java, self._groups.get(name, 0))

    def _number(self, name: str) -> Column:
        return self._text(name).try_cast("int")

    @property
    def a_time(self) -> Column:
        # As Python has it: the first way to match decides, and must reach the end.
        fine = (self._text("") == self._value) & (F.length(self._value) > 0)
        if "S" in self._groups:
            # Python reads a leap second, and makes no time of it.
            fine = fine & (self._number("S") <= _LAST_SECOND)
        if "Y" in self._groups:
            fine = fine & (self._number("Y") >= 1)
        if "d" in self._groups:
            fine = fine & (self._number("d") <= self._days)
        return fine

    @property
    def _month(self) -> Column:
        if "m" in self._groups:
            return self._number("m")
        named = next((name for name in "bB" if name in self._groups), None)
        if named is None:
            return F.lit(1)
        return F.array_position(F.array(*map(F.lit, _MONTHS)), F.lower(F.substring(self._text(named), 1, 3)))

    @property
    def _year(self) -> Column:
        if "Y" in self._groups:
            return self._number("Y")
        if "y" in self._groups:
            two = self._number("y")
            return F.when(two <= _LAST_OF_2000S, two + 2000).otherwise(two + 1900)
        return F.lit(1900)

    @property
    def _days(self) -> Column:
        year, month = self._year, self._month
        leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        february = F.when(leap, 29).otherwise(28)
        return F.when(month.isin(*_SHORT), 30).when(month == _FEBRUARY, february).otherwise(31)
