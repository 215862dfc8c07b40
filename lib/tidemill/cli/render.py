"""Values as a person reads them: pure functions from what the engine reports to what rich prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tidemill.cli.outcomes import row_fields
from tidemill.ledger.judge import State

if TYPE_CHECKING:
    from tidemill.cli.outcomes import IntervalRow
    from tidemill.quality_report import Rule
    from tidemill.reports import Coverage, Row, Status

MOST_NOT_CLEAN = 10
_STYLES = {
    "clean": "green",
    "open": "blue",
    "dirty": "red",
    "stale": "yellow",
    "missing": "magenta",
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


def count(number: int, noun: str) -> str:
    """A number and its noun.

    >>> count(1, "row"), count(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(text: str | None) -> str:
    """An ISO moment to the second, without its zone: everything here is UTC."""
    return (text or "").replace("T", " ").removesuffix("+00:00")


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


def _facts(status: Status, now: datetime) -> Iterable[tuple[str, RenderableType]]:
    if status.states:
        rows = f"{status.rows:,} in {count(sum(status.states.values()), 'interval')}"
        quarantined = Text(
            f", {status.quarantined:,} quarantined", style="yellow" if status.quarantined else ""
        )
        read = f", {status.input_rows:,} read" if status.last_batch is not None else ""
        yield "rows", Text.assemble(rows, read, quarantined if status.quarantined else "")
    if status.watermark:
        yield "watermark", moment(status.watermark)
    if status.last_batch is not None:
        when = (
            f" at {moment(status.last_batch_at)}, {ago(status.last_batch_at, now)}"
            if status.last_batch_at
            else ""
        )
        yield "last batch", f"{status.last_batch:,}{when}"
    if status.unread:
        yield "unread", Text(status.unread)
    if status.rules:
        yield "rules", _rules_in_short(status.rules)
    yield "runs", Text.assemble(f"{status.trigger}; ", _runner(status.running))
    if status.backfilling:
        yield "backfill", Text(status.backfilling, style="cyan")
    yield "code", status.fingerprint[:8]
    if status.downstream:
        yield "feeds", ", ".join(status.downstream)


def _runner(holder: str | None) -> Text:
    return Text(f"now by {holder}", style="cyan") if holder else Text("not running now")


def _rules_in_short(rules: Sequence[Rule]) -> Text:
    judged = [rule for rule in rules if rule.met is not None]
    unmet = [rule.id for rule in judged if not rule.met]
    if not judged:
        return Text(f"{len(rules)}, not judged yet")
    if not unmet:
        return Text(f"{count(len(judged), 'expectation')} met")
    more = f" and {len(unmet) - 3} more" if len(unmet) > 3 else ""
    return Text(f"{len(unmet)} of {len(judged)} not met: {', '.join(unmet[:3])}{more}", style="yellow")


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
            Text("not judged", style="dim") if rule.passed is None else _passed(rule.passed),
            f"{rule.unexpected:,}" if rule.unexpected else "",
            Text(bars(rule.recent), style="red" if rule.met is False else "green"),
        )
    return made


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


def _passed(share: float) -> Text:
    # 99.996 % is not 100 %: what failed must not be rounded away.
    text = f"{share:.2%}" if share in {0.0, 1.0} or 0.0001 <= share < 0.99995 else f"{share:.4%}"
    return Text(text, style="" if share == 1.0 else "yellow")


_BARS = "▁▂▃▄▅▆▇█"


def bars(shares: Iterable[float]) -> str:
    """Shares as bars, one a share; only all is a full one.

    >>> bars([1.0, 0.999, 0.5, 0.0])
    '█▇▄▁'
    """
    return "".join(_BARS[int(share * (len(_BARS) - 1))] for share in shares)


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


def samples(found: Sequence[Mapping[str, Any]], key: Sequence[str] = ()) -> list[RenderableType]:
    """Some differing rows: + as the code gives them, - as the table has them.

    Of a row that changed under its key, the fields that differ stand out.
    """
    read = [(str(each["interval"]), int(each["rows"]), row_fields(each["row"])) for each in found]
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for interval, number, fields in read:
        others = [other for label, n, other in read if label == interval and n * number < 0]
        twin = next(
            (other for other in others if key and all(other.get(k) == fields.get(k) for k in key)), None
        )
        sign, style = ("+", "green") if number > 0 else ("-", "red")
        times = f" x{abs(number)}" if abs(number) > 1 else ""
        made.add_row(Text(f"{sign} {interval}{times}", style=style), _sample(fields, twin, style))
    return [indented(made)]


def _sample(fields: Mapping[str, Any], twin: Mapping[str, Any] | None, style: str) -> Text:
    line = Text()
    for name, value in fields.items():
        line.append("  " if line else "")
        line.append(f"{name}=", "dim")
        line.append(str(value), f"bold {style}" if twin is not None and twin.get(name) != value else "")
    return line
