"""What backfills and verifications did, in a notebook: changes by interval, and some of the rows in pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.display.changes import IntervalRow, rows_of_done, unmet
from tidemill.display.html import (
    MOST_ROWS,
    Html,
    block,
    chip,
    folded,
    framed,
    joined,
    long_table,
    muted,
    page,
    table,
    tag,
)
from tidemill.display.pairs import Pair, Side, columns_of, numbers_of, paired, shown, telling_columns
from tidemill.display.words import count

if TYPE_CHECKING:
    from tidemill.execution.backfill import Done
    from tidemill.execution.diff import Diff
    from tidemill.execution.supervise import Outcome
    from tidemill.execution.verify import Verified
    from tidemill.ledger.carried import Seed

_CELL = "padding:1px 8px;white-space:nowrap;max-width:32em;overflow:hidden;text-overflow:ellipsis"
_LONG = 40
_WIDE = 12
_TINTS = {"-": "229,57,53", "+": "46,160,67"}
"""Red for what the table has, green for what the code gives: see-through, so that the page's own letters stay legible."""


def diff_html(diff: Diff) -> str:
    """What a run staged."""
    title = joined([tag("b", diff.pipeline), f"run {diff.run}"], by="  ")
    if not diff:
        return page(title, muted("nothing is staged yet: resume the run to carry on"))
    refused = [manifest.refused for manifest in diff if manifest.refused]
    return page(
        title,
        change_table(diff.rows),
        *_findings(refused, unmet(diff)),
        sample_table([sample for manifest in diff for sample in manifest.samples], diff.key, "as staged"),
    )


def done_html(done: Done) -> str:
    """What a backfill did."""
    title = joined([tag("b", done.pipeline), f"run {done.run}"], by="  ")
    rows = rows_of_done(done)
    if not rows and done.refused is None:
        return page(title, muted("nothing to do"))
    found = unmet(chunk.manifest for chunk in done.chunks if chunk.manifest is not None)
    far = [muted(line) for line in how_far(done)]
    return page(
        title, change_table(rows), *far, *_findings([done.refused.message] if done.refused else [], found)
    )


def how_far(done: Done) -> list[str]:
    """How far states were carried that go from interval to interval without bound; nothing of other pipelines."""
    said = []
    if done.converged is not None:
        rest = f"; {count(done.untouched, 'further interval')} not touched" if done.untouched else ""
        said.append(f"converged: from the end of {done.converged} on the states are as they were{rest}")
    if done.astray is not None:
        said.append(
            f"the stream goes on from other states, and what it adds from here on is dirty: {done.astray}"
        )
        said.append(
            f"have it begin anew from these, exactly where it stands: tidemill restart {done.pipeline}"
        )
    seed = begun_anew(done)
    if seed is not None:
        said.append(
            f"the stream begins anew after batch {seed.batch}, with the states and the rows that wait there"
        )
    return said


def begun_anew(done: Done) -> Seed | None:
    """What a restart has made for the stream; None of a backfill."""
    seeds = [chunk.manifest.seed for chunk in done.chunks if chunk.manifest is not None]
    return next((seed for seed in seeds if seed is not None), None) if done.refused is None else None


def outcomes_html(outcomes: Iterable[Outcome]) -> str:
    """How live runs ended."""
    rows = [
        (
            tag("b", each.pipeline),
            chip("failed" if each.error else "ok"),
            count(each.batches, "batch"),
            joined([each.error.message, muted(each.error.next_step)], by=" ") if each.error else "",
        )
        for each in outcomes
    ]
    return page("", table(("pipeline", "ended", "published", "why"), rows))


def _findings(refused: Sequence[str], found: Sequence[str]) -> list[Html]:
    return [block(chip("refused"), why) for why in refused] + [block(chip("not met"), each) for each in found]


def verified_html(verified: Verified) -> str:
    """What a verification found."""
    checked = count(len(verified.intervals), "interval")
    name = tag("b", verified.pipeline)
    if not verified.intervals:
        return page(joined([name, "no clean interval to verify"], by="  "))
    if verified.holds:
        return page(joined([name, chip("ok"), f"{checked} recomputed: all equal"], by="  "))
    rows = [
        (each.interval, f"+{each.missing:,}", f"-{each.unexpected:,}", each.why)
        for each in verified.differing
    ]
    return page(
        joined([name, chip("differs"), f"{len(verified.differing)} of {checked}"], by="  "),
        long_table(("interval", "missing", "unexpected", "why"), rows, right={"missing", "unexpected"}),
        sample_table(verified.samples, verified.key, "as recomputed"),
    )


def change_table(rows: Sequence[IntervalRow]) -> Html:
    """What a run does to each interval; chunks are numbered when there are several."""
    several = len({row.chunk for row in rows}) > 1
    head = ("interval", "rows", "added", "removed", "changed", "outcome")
    cells = [
        (
            *([row.chunk] if several else []),
            row.interval,
            f"{row.rows:,}",
            f"+{row.added:,}" if row.added else "",
            f"-{row.removed:,}" if row.removed else "",
            f"{row.changed:,}" if row.changed else "",
            chip(row.outcome),
        )
        for row in rows
    ]
    numbers = {"chunk", "rows", "added", "removed", "changed"}
    return long_table(("chunk", *head) if several else head, cells, right=numbers)


def sample_table(samples: Sequence[Mapping[str, Any]], key: Sequence[str], given: str) -> Html:
    """Differing rows in pairs: what is equal in both recedes, what differs stands out.

    Of wide rows only the key is shown, and the columns in which a pair differs.
    """
    if not samples:
        return Html()
    pairs = paired(samples, key)
    everything = columns_of(pairs)
    columns = everything if len(everything) <= _WIDE else telling_columns(pairs, key)
    left = len(everything) - len(columns)
    said = f"some of the rows: + {given}, - as the table has them"
    note = f"; {count(left, 'column')} in which no row differs not shown" if left else ""
    aligned = {name: "right" if name in numbers_of(pairs) else "left" for name in columns}
    first, more = pairs[:MOST_ROWS], pairs[MOST_ROWS:]
    rest = folded(f"{len(more):,} more", _lines(more, aligned)) if more else ""
    return joined([block(muted(said + note)), _lines(first, aligned), rest])


def _lines(pairs: Sequence[Pair], aligned: Mapping[str, str]) -> Html:
    head = tag("tr", *_head("th", "", "interval"), *(_cell("th", *column) for column in aligned.items()))
    return framed([head, *(_line(pair, sign, side, aligned) for pair in pairs for sign, side in pair.sides)])


def _line(pair: Pair, sign: str, side: Side, aligned: Mapping[str, str]) -> Html:
    cells = [
        _cell("td", shown(side.fields.get(name)), where, _look(pair, sign, name))
        for name, where in aligned.items()
    ]
    told = _head("td", sign if side.times == 1 else f"{sign} x{side.times}", pair.interval)
    begins = sign == "-" or pair.before is None
    rule = "border-top:1px solid rgba(128,128,128,.4)" if begins else ""
    return tag("tr", *told, *cells, style=f"background:rgba({_TINTS[sign]},.12);{rule}")


def _head(element: str, sign: str, interval: str) -> list[Html]:
    return [_cell(element, sign, "left"), _cell(element, interval, "left")]


def _look(pair: Pair, sign: str, name: str) -> str:
    if name in pair.differing:
        return f"background:rgba({_TINTS[sign]},.4);font-weight:bold"
    return "opacity:.6" if pair.differing else ""


def _cell(element: str, text: str, where: str, look: str = "") -> Html:
    # What is cut off on the page is whole in the title.
    title = text if len(text) > _LONG else ""
    return tag(element, text, style=f"{_CELL};text-align:{where};{look}", title=title)
