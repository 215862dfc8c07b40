"""Markup for notebooks: what is not markup already is escaped, whoever wrote it.

Styles stand in the elements, since a notebook's page is not ours. Colours are either a dark ground under white
letters or a see-through tint, so that both light and dark pages show them; other text has the page's own colour.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence

GREEN, BLUE, RED, AMBER, PURPLE, GREY = "#2e7d32", "#1565c0", "#c62828", "#b45309", "#7b1fa2", "#616161"
COLOURS = {
    "clean": GREEN,
    "open": BLUE,
    "dirty": RED,
    "stale": AMBER,
    "missing": PURPLE,
    "expired": GREY,
    "recorded": GREEN,
    "swapped": GREEN,
    "published": GREEN,
    "staged": BLUE,
    "refused": RED,
    "not met": AMBER,
    "undone": AMBER,
    "differs": RED,
    "error": RED,
    "failed": RED,
    "ok": GREEN,
}
"""States and outcomes that have a colour."""

MOST_ROWS = 20

_WHOLE, _PROSE = "white-space:nowrap", "white-space:normal;min-width:9em;max-width:48em"
_CELL = "text-align:{side};padding:2px 12px 2px 0;vertical-align:top;{wrap}"


class Html(str):
    """Text that is markup. Any other text is escaped where it becomes part of markup."""

    __slots__ = ()


def markup(part: object) -> Html:
    """A part as markup.

    >>> markup("a < b"), markup(Html("<b>a</b>"))
    ('a &lt; b', '<b>a</b>')
    """
    return part if isinstance(part, Html) else Html(html.escape(str(part)))


def joined(parts: Iterable[object], by: str = "") -> Html:
    """Parts one after the other."""
    return Html(html.escape(by).join(markup(part) for part in parts))


def tag(name: str, *parts: object, style: str = "", title: str = "") -> Html:
    """An element.

    >>> tag("b", "a < b", title='"')
    '<b title="&quot;">a &lt; b</b>'
    """
    styled = f' style="{html.escape(style)}"' if style else ""
    titled = f' title="{html.escape(title)}"' if title else ""
    return Html(f"<{name}{styled}{titled}>{joined(parts)}</{name}>")


def muted(*parts: object) -> Html:
    """What matters less."""
    return tag("span", *parts, style="opacity:.65")


def chip(text: str, number: int | None = None) -> Html:
    """A state or an outcome on its colour, with how many there are."""
    style = f"background:{COLOURS.get(text, GREY)};color:#fff;border-radius:3px;padding:0 6px"
    said = text if number is None else f"{number:,} {text}"
    return tag("span", said, style=f"{style};white-space:nowrap;margin-right:4px")


def block(*parts: object) -> Html:
    """Parts below each other."""
    return tag("div", *parts, style="margin:4px 0")


def page(title: object, *parts: object) -> str:
    """What a notebook shows of one value: a headline and its parts."""
    head = [tag("div", title, style="margin:4px 0")] if title else []
    return tag("div", *head, *parts, style="line-height:1.5")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Collection[str] = (),
    prose: Collection[str] = ("why",),
) -> Html:
    """A table; columns in ``right`` hold numbers, only those in ``prose`` may be broken over lines."""
    sides = ["right" if name in right else "left" for name in head]
    wraps = [_PROSE if name in prose else _WHOLE for name in head]
    styles = [_CELL.format(side=side, wrap=wrap) for side, wrap in zip(sides, wraps, strict=True)]
    lines = [_row("td", row, styles) for row in rows]
    titles = [_row("th", head, styles)]
    return framed([*titles, *lines])


def long_table(head: Sequence[str], rows: Sequence[Sequence[object]], **options: Collection[str]) -> Html:
    """A table of which the first rows are seen, and the others opened when they are asked for."""
    first, more = rows[:MOST_ROWS], rows[MOST_ROWS:]
    if not more:
        return table(head, first, **options) if first else Html()
    return joined(
        [table(head, first, **options), folded(f"{len(more):,} more", table(head, more, **options))]
    )


def _row(name: str, cells: Sequence[object], styles: Sequence[str]) -> Html:
    return tag("tr", *(tag(name, cell, style=style) for cell, style in zip(cells, styles, strict=True)))


def framed(rows: Iterable[Html]) -> Html:
    """Rows as a table."""
    # Wide tables are moved sideways, not squeezed.
    made = tag("table", *rows, style="border-collapse:collapse;margin:2px 0")
    return tag("div", made, style="overflow-x:auto")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, a line each."""
    styles = [
        _CELL.format(side="left", wrap=_WHOLE) + ";opacity:.65",
        _CELL.format(side="left", wrap=_PROSE),
    ]
    return framed([_row("td", pair, styles) for pair in pairs])


def folded(summary: str, part: Html) -> Html:
    """What opens when it is asked for."""
    return tag("details", tag("summary", summary, style="cursor:pointer"), part)


def bars(shares: Iterable[float], colours: Iterable[str], titles: Iterable[str]) -> Html:
    """Shares between 0 and 1 as bars side by side; only all is a full one, and none still shows that it was there."""
    ground = "display:inline-block;width:5px;margin-right:1px;vertical-align:bottom"
    made = [
        tag("span", style=f"{ground};height:{_height(part)}px;background:{colour}", title=title)
        for part, colour, title in zip(shares, colours, titles, strict=True)
    ]
    return tag("span", *made, style="display:inline-block;white-space:nowrap;height:16px")


def columns(heights: Sequence[float], colours: Sequence[str], titles: Sequence[str]) -> Html:
    """Numbers as columns side by side, the greatest of them as high as there is room."""
    most = max(heights, default=0) or 1
    made = []
    for place, (height, colour, title) in enumerate(zip(heights, colours, titles, strict=True)):
        # The least of something is still to be seen; nothing is not.
        high = max(1.0, 40 * height / most) if height else 0
        place_of = f'x="{place}" y="{40 - high:g}" width="0.85" height="{high:g}" fill="{colour}"'
        made.append(f"<rect {place_of}><title>{html.escape(title)}</title></rect>")
    wide = f"width:{min(12 * len(made), 900)}px;max-width:100%;height:40px;display:block"
    box = f'viewBox="0 0 {len(made)} 40" preserveAspectRatio="none"'
    return Html(f'<svg {box} style="{wide}">{"".join(made)}</svg>')


def _height(part: float) -> int:
    return 16 if part >= 1.0 else 1 + int(part * 14)
