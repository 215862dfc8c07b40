"""Numbers and moments in words, the same in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """A number and its noun.

    >>> count(1, "row"), count(1200, "row"), count(2, "batch")
    ('1 row', '1,200 rows', '2 batches')
    """
    several = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{'' if number == 1 else several}"


def size(number: int) -> str:
    """A number of bytes, in the unit that fits.

    >>> size(900), size(1_500_000)
    ('900 B', '1.4 MB')
    """
    value = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def moment(text: str | None) -> str:
    """An ISO moment to the second, without its zone: everything here is UTC."""
    return (text or "").replace("T", " ").removesuffix("+00:00")


def share(part: float) -> str:
    """A share of rows in per cent. What is not all is never rounded to all, nor what is not none to none.

    >>> share(1.0), share(0.995), share(0.99999)
    ('100.00%', '99.50%', '99.9990%')
    """
    return f"{part:.2%}" if part in {0.0, 1.0} or 0.0001 <= part < 0.99995 else f"{part:.4%}"


def whose(of: str) -> str:
    """Whose rows are meant: an input's name, or the table."""
    return of or "the table"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
