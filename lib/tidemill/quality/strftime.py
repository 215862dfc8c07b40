r"""Whether a text is a time in one of Python's ``strftime`` formats, without Python.

Source: `_strptime._strptime` of CPython, which makes a regular expression of the format, wants its first way to match to end
where the text ends, and then a date that there is. Formats of the common directives become one regular expression that says
all of it; the others are left to Python, in a function that Spark calls.

What makes no date is noted where it is read, in groups that match nothing but are there (``short``: a month of 30 days), and
the end of the expression refuses them together: ``(?P=short)(?P=d31)`` matches there if both have been.
"""

from __future__ import annotations

import re
from _strptime import TimeRE  # type: ignore[import-not-found]  # the standard library's, without stubs
from datetime import datetime

from pyspark.sql import Column
from pyspark.sql import functions as F

_NATIVE = frozenset("YymbBdHIMSfpaA%")
_ALIKE = ("Yy", "mbB")
"""Directives that say the same of a date; which of two counts is left to Python."""

_NOTED = {
    "Y": r"0000(?P<zero>)|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)(?P<leap>)",
    # Of two digits, a year is from 1969 to 2068.
    "y": r"(?:[02468][048]|[13579][26])(?P<leap>)",
    "m": r"(?:0[469]|11)(?P<short>)|02(?P<feb>)|1[0-2]|0[1-9]|[469](?P<short1>)|2(?P<feb1>)",
    "b": r"(?:apr|jun|sep|nov)(?P<short>)|feb(?P<feb>)",
    "B": r"(?:april|june|september|november)(?P<short>)|february(?P<feb>)",
    "d": r"31(?P<d31>)|30(?P<d30>)|29(?P<d29>)",
    # Python reads a leap second, and makes no time of it.
    "S": r"6[01](?P<sixty>)",
}
"""What is tried before all that a directive may be. None of it is shorter than what Python would have taken."""

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

_NO_DATE = (
    ("zero",),
    ("sixty",),
    *((month, "d31") for month in ("short", "short1", "feb", "feb1")),
    *((month, day) for month in ("feb", "feb1") for day in ("d30", "d29")),
)


def problem(form: str) -> str | None:
    """Why no text can be read with a format; None when texts can."""
    try:
        datetime.strptime(datetime(2001, 2, 3, 4, 5, 6).strftime(form), form)  # noqa: DTZ001, DTZ007  of no zone
    except (ValueError, re.error) as error:
        return str(error)
    return None


def matches(value: Column, form: str) -> Column:
    """Whether each text is a time of this format; null where the text is."""
    regex = expression(form)
    if regex is None:
        return F.udf(lambda text: None if text is None else _readable(text, form), "boolean")(value)
    java = re.sub(r"\(\?P=(\w+)\)", r"\\k<\1>", regex.replace("(?P<", "(?<"))
    # Texts of other alphabets have small and great letters, too.
    return value.rlike(java.replace("(?i:", "(?iu:").removesuffix("Z") + "z")


def expression(form: str) -> str | None:
    r"""The regular expression that finds texts which are times of this format, in Python's syntax; None where none does.

    >>> bool(re.search(expression("%d.%m.%Y"), "29.2.2024")), bool(re.search(expression("%d.%m.%Y"), "29.2.2023"))
    (True, False)
    """
    asked = set(re.findall(r"%(.)", form, re.DOTALL))
    if not asked <= _NATIVE or any(len(asked & set(group)) > 1 for group in _ALIKE):
        return None
    directives = TimeRE()
    regex = directives.pattern(form)
    for name, noted in _NOTED.items():
        begin = f"(?P<{name}>"
        regex = regex.replace(directives[name], f"{begin}{noted}|{directives[name].removeprefix(begin)}")
    whole = f"(?i:(?>{regex})(?!{'|'.join(_refused(regex))}))"
    plain = _plain(form)
    # What is plainly a time is most of what there is, and is found more quickly so.
    return rf"^{whole}\Z" if plain is None else rf"^(?:{plain}|{whole})\Z"


def _plain(form: str) -> str | None:
    """An expression that only times of this format match, not all of them; None where there is none."""
    parts = []
    for part in re.findall(r"%.|\s+|.", form, re.DOTALL):
        if part[0] == "%":
            if part[1] not in _PLAIN:
                return None
            parts.append(_PLAIN[part[1]])
        else:
            parts.append(" " if part.isspace() else re.escape(part))
    return "".join(parts)


def _refused(regex: str) -> list[str]:
    there = set(re.findall(r"\(\?P<(\w+)>", regex))
    leap = "(?!(?P=leap))" if "leap" in there else ""
    found = [
        (leap if "d29" in groups else "") + "".join(f"(?P={name})" for name in groups)
        for groups in _NO_DATE
        if there.issuperset(groups)
    ]
    return found or ["(?!)"]  # nothing is refused


def _readable(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)  # noqa: DTZ007  what is asked is whether it can be read
    except ValueError:
        return False
    return True
