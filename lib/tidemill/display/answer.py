"""A query's answer in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.display.html import block, long_table, muted, page
from tidemill.display.words import count

if TYPE_CHECKING:
    from tidemill.queries import Answer

MOST_ROWS = 1000


def answer_html(answer: Answer) -> str:
    """The rows, and which version of which table they are from."""
    shown = answer.arrow.slice(0, MOST_ROWS).to_pylist()
    rows = [tuple("" if value is None else str(value) for value in row.values()) for row in shown]
    more = answer.arrow.num_rows - len(rows)
    return page(
        long_table(answer.columns, rows),
        block(muted(f"and {count(more, 'row')} more")) if more else "",
        block(muted(said_of(answer))),
    )


def said_of(answer: Answer) -> str:
    """How many rows, from what, in how long."""
    tables = ", ".join(
        f"{each.name} ({'nothing was set aside' if each.version is None else f'version {each.version}'})"
        for each in answer.tables
    )
    of = f" from {tables}" if tables else ""
    return f"{count(answer.arrow.num_rows, 'row')}{of}, in {answer.seconds * 1000:.0f} ms"
