"""How pipelines stand, in words and in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tidemill.display.coverage import interval_table
from tidemill.display.html import BLUE, Html, bars, block, chip, facts, joined, muted, page, table, tag
from tidemill.display.rules import rule_table, rules_in_short
from tidemill.display.words import count, moment
from tidemill.errors import TidemillError

if TYPE_CHECKING:
    from tidemill.reports import Status


def told(status: Status) -> Iterator[tuple[str, str]]:
    """What there is to say of a pipeline beside its states: names and values."""
    if status.states:
        read = f", {status.input_rows:,} read" if status.last_batch is not None else ""
        yield "rows", f"{status.rows:,} in {count(sum(status.states.values()), 'interval')}{read}"
    aside = (("quarantined", status.quarantined, "row"), ("rejected", status.rejected, "command"))
    yield from ((name, count(number, what)) for name, number, what in aside if number)
    if status.dropped:
        yield "dropped", f"{count(status.dropped, 'row')} of batches, by rules"
    if status.watermark:
        yield "watermark", moment(status.watermark)
    if status.last_batch is not None:
        yield "last batch", last_batch(status)
    astray = (
        f"what it adds from here on is dirty: {status.astray}; {_mended(status)}" if status.astray else None
    )
    for name, value in (("stream", astray), ("unread", status.unread), ("kept", status.kept)):
        if value:
            yield name, value
    if status.rules:
        yield "rules", rules_in_short(status.rules)
    yield "runs", f"{status.trigger}; {runner(status)}"
    if status.backfilling:
        yield "backfill", status.backfilling
    yield "code", status.fingerprint[:8]
    if status.downstream:
        yield "feeds", ", ".join(status.downstream)


def _mended(status: Status) -> str:
    """What a person does about a stream whose states are not those of its table."""
    restart = f"tidemill restart {status.pipeline}"
    if any(status.states.get(state) for state in ("dirty", "stale", "missing")):
        return f"backfill what is not clean, then: {restart}"
    return f"have it begin anew from those of its table: {restart}"


def last_batch(status: Status) -> str:
    """The number of the last batch, and when it was published."""
    return f"{status.last_batch:,}" + (f" at {moment(status.last_batch_at)}" if status.last_batch_at else "")


def runner(status: Status) -> str:
    """Who runs the live stream."""
    return f"now by {status.running}" if status.running else "not running now"


def status_html(status: Status) -> str:
    """One pipeline: its states, its numbers, its expectations, and the intervals that are not clean."""
    return page(
        joined([tag("b", status.pipeline), _states(status)], by="  "),
        facts(told(status)),
        _batches(status.recent),
        rule_table(status.rules) if status.rules else "",
        interval_table(status.not_clean),
    )


def _states(status: Status) -> Html:
    if not status.states:
        return muted("no table yet" if status.version < 0 else "empty")
    return joined(chip(state, number) for state, number in status.states.items())


def _batches(recent: Sequence[Mapping[str, int]]) -> Html:
    if not recent:
        return Html()
    most = max(batch["input_rows"] for batch in recent) or 1
    shares = [batch["input_rows"] / most for batch in recent]
    titles = [
        f"batch {each['batch']}: {each['input_rows']:,} read, {each['rows']:,} written" for each in recent
    ]
    said = f"rows read in the last {count(len(recent), 'batch')}"
    return block(bars(shares, [BLUE] * len(shares), titles), muted(f" {said}, at most {most:,}"))


def statuses_html(found: Iterable[tuple[str, Status | TidemillError]]) -> str:
    """Pipelines, a line each; one whose code does not load hides no other."""
    lines = [{"pipeline": tag("b", name)} | _line(each) for name, each in found]
    # What none of the pipelines has needs no column.
    head = list(dict.fromkeys(name for line in lines for name, cell in line.items() if cell))
    cells = [[line.get(name, "") for name in head] for line in lines]
    return page("", table(head, cells, right={"rows"}, prose=("runs", "rules")))


def _line(status: Status | TidemillError) -> dict[str, object]:
    if isinstance(status, TidemillError):
        return {"states": joined([chip("error"), status.message])}
    return {
        "states": _states(status),
        "rows": f"{status.rows:,}" if status.states else "",
        "watermark": moment(status.watermark),
        "last batch": "" if status.last_batch is None else last_batch(status),
        "unread": status.unread or "",
        "runs": runner(status) if status.running else muted(runner(status)),
        "rules": rules_in_short(status.rules) if status.rules else "",
    }
