"""Differing rows on a terminal, below each other in columns, as chispa shows frames that are not equal.

What is equal on both sides recedes, what differs stands out. What a terminal is too narrow for is told in fewer
columns, or a field after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from tidemill.cli import render
from tidemill.display import words
from tidemill.display.pairs import Pair, Side, columns_of, numbers_of, shown, telling_columns

_STYLES = {"-": "red", "+": "green"}
_ANY_WIDTH = 100_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Pairs of rows: - as the table has them, + as the code gives them."""

    pairs: Sequence[Pair]
    key: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        everything, telling = columns_of(self.pairs), telling_columns(self.pairs, self.key)
        for columns in (everything, telling):
            made = self._table(columns)
            wide = console.measure(made, options=options.update(max_width=_ANY_WIDTH)).maximum
            if wide <= options.max_width:
                yield made
                if columns is not everything and len(columns) < len(everything):
                    left = words.count(len(everything) - len(columns), "column")
                    yield Text(f"and {left} in which no row differs", style="dim")
                return
        yield self._lines(telling)

    def _table(self, columns: Sequence[str]) -> Table:
        made = render.table("", "interval", *columns, right=numbers_of(self.pairs))
        for pair in self.pairs:
            for sign, side in pair.sides:
                made.add_row(*_head(pair, sign, side), *(_cell(pair, sign, side, name) for name in columns))
        return made

    def _lines(self, columns: Sequence[str]) -> Table:
        made = Table.grid(padding=(0, 2, 0, 0))
        made.add_column(no_wrap=True)
        made.add_column(no_wrap=True)
        made.add_column(overflow="fold")
        for pair in self.pairs:
            for sign, side in pair.sides:
                fields = [
                    Text.assemble((f"{name}=", "dim"), _cell(pair, sign, side, name)) for name in columns
                ]
                made.add_row(*_head(pair, sign, side), Text("  ").join(fields))
        return made


def _head(pair: Pair, sign: str, side: Side) -> tuple[Text, Text]:
    times = f" x{side.times}" if side.times > 1 else ""
    return Text(sign + times, style=_STYLES[sign]), Text(pair.interval, style=_STYLES[sign])


def _cell(pair: Pair, sign: str, side: Side, name: str) -> Text:
    stands_out = f"bold underline {_STYLES[sign]}"
    style = stands_out if name in pair.differing else "dim" if pair.differing else ""
    # The style is of the text alone: what fills up a column is not underlined.
    return Text.assemble((shown(side.fields.get(name)), style))
