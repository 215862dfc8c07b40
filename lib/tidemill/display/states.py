"""States of a fold, in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.display.html import MOST_ROWS, block, chip, joined, muted, page, table, tag
from tidemill.display.words import count

if TYPE_CHECKING:
    from tidemill.states import StatesAt


def states_html(found: StatesAt) -> str:
    """The states at a moment, a row a key."""
    title = joined(
        [tag("b", found.pipeline), f"{count(len(found.keys), 'key')} at {found.at:%Y-%m-%d %H:%M}"], by="  "
    )
    told = [block(chip("dirty"), found.why)] if found.why else []
    if not found.keys:
        return page(title, *told, muted("no key has a state"))
    shown = found.keys[:MOST_ROWS]
    names = (*shown[0].key, *shown[0].state, "since")
    rows = [
        (*map(str, each.key.values()), *map(str, each.state.values()), f"{each.since:%Y-%m-%d %H:%M}")
        for each in shown
    ]
    more = [muted(f"and {len(found.keys) - len(shown):,} more")] if len(found.keys) > len(shown) else []
    return page(title, *told, table(names, rows), *more)
