"""Values as a person reads them: pure functions from what the engine reports to what rich prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tidemill.display import words
from tidemill.display.status import told
from tidemill.display.words import share
from tidemill.ledger.judge import State

if TYPE_CHECKING:
    from tidemill.display.changes import IntervalRow
    from tidemill.quality_report import Rule
    from tidemill.reports import Coverage, Row, Status

MOST_NOT_CLEAN = 10
_STYLES = {
    "clean": "green",
    "open": "blue",
    "dirty": "red",
    "stale": "yellow",
    "missing": "magenta",
    "expired": "dim",
    "recorded": "green",
    "swapped": "green",
    "published": "green",
    "equal": "dim",
    "already": "dim",
    "staged": "blue",
    "refused": "bold red",
    "undone": "yellow",
    "differs": "bold red",
    "ok": "green",
    "failed": "bold red",
}


def word(text: str) -> Text:
    """A state or an outcome in its colour."""
    return Text(text, style=_STYLES.get(text, ""))


def ago(text: str, now: datetime) -> str:
    """How long ago a moment was, in one unit.

    >>> ago("2013-01-05T00:00:00+00:00", datetime.fromisoformat("2013-01-05T03:10:00+00:00"))
    '3 h ago'
    """
    passed = now - datetime.fromisoformat(text)
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if passed >= length:
            return f"{passed // length} {unit} ago"
    return f"{max(0, int(passed.total_seconds()))} s ago"


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """A table without a frame, which survives narrow terminals and copying."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    numbers = set(right)
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in numbers else "left",
            # Only prose may be broken over lines.
            no_wrap=column not in {"why", "detail", "message"},
            overflow="fold",
        )
    return made


def indented(part: RenderableType, by: int = 2) -> Padding:
    """A part moved to the right."""
    return Padding(part, (0, 0, 0, by), expand=False)


def lines(texts: Iterable[str]) -> list[RenderableType]:
    """Indented lines; when one is broken by a narrow terminal, its rest keeps the indentation."""
    return [indented(Text(text.lstrip()), len(text) - len(text.lstrip())) for text in texts]


def and_more(left: int, how: str, what: str = "") -> list[RenderableType]:
    """How many are not shown, and what shows them; nothing where all are.

    >>> [str(each) for each in and_more(3, "--most", "key")], and_more(0, "--most")
    (['and 3 keys more: --most'], [])
    """
    many = words.count(left, what) if what else f"{left:,}"
    return [Text(f"and {many} more: {how}", style="dim")] if left > 0 else []


def plan_lines(texts: Sequence[str]) -> list[RenderableType]:
    """The lines of an explained plan: the headline bold, what is left out in the colour of open."""
    parts = lines(texts)
    for part, text in zip(parts, texts, strict=True):
        inner = part.renderable if isinstance(part, Padding) else None
        if isinstance(inner, Text):
            bare = text.lstrip()
            style = {"chunk": "cyan", "left": "blue", "downstream,": "yellow"}.get(bare.split(" ", 1)[0], "")
            inner.stylize("bold" if text is texts[0] else style)
    return parts


def status_block(status: Status, now: datetime) -> list[RenderableType]:
    """One pipeline: its states, its numbers, who runs it, and the first intervals that are not clean."""
    if status.version < 0 and not status.states:
        head = Text("no table yet", style="dim")
    else:
        head = Text("  ").join(
            Text.assemble((f"{number:,} ", ""), word(state)) for state, number in status.states.items()
        ) or Text("empty", style="dim")
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(status, now):
        facts.add_row(name, value)
    parts: list[RenderableType] = [
        Text.assemble((status.pipeline, "bold"), "  ", head),
        indented(facts),
    ]
    if status.not_clean:
        parts.append(indented(interval_table(status.not_clean[:MOST_NOT_CLEAN])))
        more = len(status.not_clean) - MOST_NOT_CLEAN
        if more > 0:
            parts.append(indented(Text(f"and {more} more: tidemill status {status.pipeline}", style="dim")))
    return parts


def _facts(status: Status, now: datetime) -> Iterable[tuple[str, Text]]:
    for name, value in told(status):
        when = f", {ago(status.last_batch_at, now)}" if name == "last batch" and status.last_batch_at else ""
        yield name, Text(value + when, style=_fact_style(name, status))


def _fact_style(name: str, status: Status) -> str:
    match name:
        case "backfill":
            return "cyan"
        case "runs":
            return "cyan" if status.running else ""
        case "rules":
            return "yellow" if any(rule.met is False for rule in status.rules) else ""
        case "quarantined" | "stream":
            return "yellow"
        case _:
            return ""


def rule_table(rules: Sequence[Rule]) -> Table:
    """Every expectation with the share of what passed, in all and in the last batches and chunks."""
    made = table(
        "expectation", "of", "action", "passed", "unexpected", "lately", right=["passed", "unexpected"]
    )
    for rule in rules:
        made.add_row(
            rule.id,
            rule.of or "the table",
            rule.action,
            Text("not judged", style="dim")
            if rule.passed is None
            else Text(share(rule.passed), style="" if rule.passed == 1.0 else "yellow"),
            f"{rule.unexpected:,}" if rule.unexpected else "",
            _lately(rule),
        )
    return made


def _lately(rule: Rule) -> Text:
    colours = ("green" if met else "red" for met in rule.recent_met)
    return Text.assemble(*zip(bars(rule.recent), colours, strict=True))


def not_met(findings: Sequence[str]) -> list[RenderableType]:
    """What expectations were not met; nothing where all were."""
    if not findings:
        return []
    return [indented(Text("not met:", style="yellow")), *lines([f"    {each}" for each in findings])]


def not_judged(lines_: Sequence[str]) -> list[RenderableType]:
    """What a gate could not judge; nothing where it could judge all."""
    if not lines_:
        return []
    return [indented(Text("not judged:", style="yellow")), *lines([f"    {each}" for each in lines_])]


_BARS = "▁▂▃▄▅▆▇█"


def bars(shares: Iterable[float]) -> str:
    """Shares as bars, one a share; only all is a full one.

    >>> bars([1.0, 0.999, 0.5, 0.0])
    '█▇▄▁'
    """
    return "".join(_BARS[int(part * (len(_BARS) - 1))] for part in shares)


def interval_table(rows: Sequence[Row]) -> Table:
    """Intervals with state, rows and reason."""
    made = table("interval", "state", "rows", "why", right=["rows"])
    for row in rows:
        made.add_row(row.interval, word(row.state.value), f"{row.rows:,}", row.notes)
    return made


def coverage_table(coverage: Coverage) -> Table:
    """Every interval, with the run that last settled it where there was one."""
    made = table("interval", "state", "rows", "run", "why", right=["rows"])
    for row in coverage.rows:
        # A backfilled interval that is no longer clean was settled once; the run would mislead.
        made.add_row(
            row.interval,
            word(row.state.value),
            f"{row.rows:,}",
            (row.run or "live") if row.state is State.CLEAN else "",
            row.notes,
        )
    return made


def change_table(rows: Sequence[IntervalRow]) -> Table:
    """What a run does to each interval; chunks are numbered when there are several."""
    several = len({row.chunk for row in rows}) > 1
    made = table(
        *(["chunk"] if several else []),
        "interval",
        "rows",
        "added",
        "removed",
        "changed",
        "outcome",
        right=_NUMBERS,
    )
    for row in rows:
        made.add_row(
            *([str(row.chunk)] if several else []),
            row.interval,
            f"{row.rows:,}",
            _signed("+", row.added, "green"),
            _signed("-", row.removed, "red"),
            f"{row.changed:,}" if row.changed else "",
            word(row.outcome),
        )
    return made


_NUMBERS = ("chunk", "rows", "added", "removed", "changed")


def _signed(sign: str, number: int, style: str) -> Text:
    return Text(f"{sign}{number:,}" if number else "", style=style)
