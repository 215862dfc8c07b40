"""Coverage in a notebook: a strip with a cell for each interval, and a table of those that are not clean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tidemill.display.html import (
    COLOURS,
    GREY,
    Html,
    block,
    chip,
    columns,
    joined,
    long_table,
    muted,
    page,
    tag,
)
from tidemill.display.words import count
from tidemill.intervals import Grain
from tidemill.ledger.judge import SETTLED, State

if TYPE_CHECKING:
    from tidemill.reports import Coverage, Row

MOST_LINES = 62
FEWEST_COLUMNS, MOST_COLUMNS = 4, 800

_LINES = {Grain.HOUR: 10, Grain.DAY: 7, Grain.MONTH: 4}
"""How many letters of a label name the line that its cell is in: a day's hours, a month's days, a year's months."""

_PLACES = {Grain.HOUR: 24, Grain.DAY: 31, Grain.MONTH: 12}
_FIRST = {Grain.HOUR: 0, Grain.DAY: 1, Grain.MONTH: 1}
_NAMED = {Grain.HOUR: 6, Grain.DAY: 5, Grain.MONTH: 1}
_LINE = "display:flex;gap:2px;height:17px;font:bold 10px/15px sans-serif;text-align:center"
_CELL = "flex:none;width:15px;height:15px;"
_NONE = f"{_CELL}background:rgba(128,128,128,.15)"


def coverage_html(coverage: Coverage) -> str:
    """All of a pipeline's intervals."""
    title = joined([tag("b", coverage.pipeline), legend(row.state for row in coverage.rows)], by="  ")
    if not coverage.rows:
        return page(title, muted("no interval is known yet"))
    not_clean = [row for row in coverage.rows if row.state not in SETTLED]
    rows = sum(row.rows for row in coverage.rows)
    return page(
        title,
        block(muted(f"{count(rows, 'row')} in {count(len(coverage.rows), 'interval')}")),
        _volumes(coverage.rows) if len(coverage.rows) >= FEWEST_COLUMNS else "",
        strip(coverage.grain, {row.interval: (row.state, _title(row)) for row in coverage.rows}),
        interval_table(not_clean),
    )


def _volumes(rows: Sequence[Row]) -> Html:
    shown = rows[-MOST_COLUMNS:]
    colours = [COLOURS[row.state.value] for row in shown]
    return block(
        columns(
            [row.rows for row in shown],
            colours,
            [f"{row.interval}: {count(row.rows, 'row')}" for row in shown],
        )
    )


def legend(states: Iterable[State]) -> Html:
    """How many intervals are in each state."""
    counts = Counter(states)
    return joined(chip(state.value, counts[state]) for state in State if counts[state])


def _title(row: Row) -> str:
    why = f": {row.notes}" if row.notes else ""
    return f"{row.interval}  {row.state.value}{why}  ({count(row.rows, 'row')}, by {row.run or 'the live stream'})"


def strip(grain: Grain, cells: Mapping[str, tuple[State, str]]) -> Html:
    """A cell for each label in time order, a line for each day, month or year; the last lines of many.

    What is not clean also has its state's first letter: colour alone does not reach everyone.
    """
    if grain is Grain.ALL:
        whole = [_line(label, [_cell(state, title)]) for label, (state, title) in cells.items()]
        return tag("div", *whole, style="margin:4px 0;overflow-x:auto")
    lines: dict[str, dict[int, Html]] = {}
    for label, (state, title) in sorted(cells.items()):
        name = label[: _LINES[grain]]
        lines.setdefault(name, {})[int(label[-2:]) - _FIRST[grain]] = _cell(state, title)
    shown = dict(list(lines.items())[-MOST_LINES:])
    return tag(
        "div",
        _earlier(cells, next(iter(shown), ""), grain),
        _line("", [_number(grain, place) for place in range(_PLACES[grain])]),
        *(_line(name, _filled(places, _PLACES[grain])) for name, places in shown.items()),
        style="margin:4px 0;overflow-x:auto",
    )


def _earlier(cells: Mapping[str, tuple[State, str]], first: str, grain: Grain) -> Html:
    earlier = [state for label, (state, _) in cells.items() if label[: _LINES[grain]] < first]
    return block(muted(f"before {first}: "), legend(earlier)) if earlier else Html()


def _cell(state: State, title: str) -> Html:
    letter = "" if state in SETTLED else state.value[0]
    return tag(
        "span", letter, style=f"{_CELL}background:{COLOURS.get(state.value, GREY)};color:#fff", title=title
    )


def _number(grain: Grain, place: int) -> Html:
    said = place + _FIRST[grain]
    shown = str(said) if place == 0 or said % _NAMED[grain] == 0 else ""
    return tag("span", shown, style=f"{_CELL}opacity:.65;font-weight:normal")


def _filled(places: Mapping[int, Html], length: int) -> list[Html]:
    last = max(places)
    return [places.get(place) or tag("span", style=_NONE) for place in range(min(last + 1, length))]


def _line(name: str, cells: Iterable[Html]) -> Html:
    ground = "flex:none;width:7em;opacity:.65;font-size:12px;font-weight:normal;text-align:left"
    return tag("div", tag("span", name, style=ground), *cells, style=_LINE)


def interval_table(rows: Sequence[Row]) -> Html:
    """Intervals with state, rows and reason."""
    cells = [(row.interval, chip(row.state.value), f"{row.rows:,}", row.notes) for row in rows]
    return long_table(("interval", "state", "rows", "why"), cells, right={"rows"})
