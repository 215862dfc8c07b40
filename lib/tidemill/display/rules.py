"""How expectations have fared, in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidemill.display.html import AMBER, GREEN, RED, Html, bars, joined, muted, page, table, tag
from tidemill.display.words import count, share, some

if TYPE_CHECKING:
    from tidemill.quality_report import Rule


def rules_html(rules: Sequence[Rule]) -> str:
    """All of a pipeline's expectations."""
    return page(joined([tag("b", "expectations"), muted(rules_in_short(rules))], by="  "), rule_table(rules))


def rules_in_short(rules: Sequence[Rule]) -> str:
    """How many are met, and which are not."""
    judged = [rule for rule in rules if rule.met is not None]
    unmet = [rule.id for rule in judged if not rule.met]
    if not judged:
        return f"{len(rules)}, not judged yet" if rules else "none"
    if not unmet:
        return f"{count(len(judged), 'expectation')} met"
    return f"{len(unmet)} of {len(judged)} not met: {some(unmet)}"


def rule_table(rules: Sequence[Rule]) -> Html:
    """Every expectation with the share of what passed, in all and in the last batches and chunks."""
    head = ("expectation", "of", "action", "met", "passed", "unexpected", "lately")
    cells = [
        (
            rule.id,
            rule.of or "the table",
            rule.action,
            _met(rule),
            muted("not judged") if rule.passed is None else share(rule.passed),
            f"{rule.unexpected:,}" if rule.unexpected else "",
            _lately(rule),
        )
        for rule in rules
    ]
    return table(head, cells, right={"passed", "unexpected"}, prose=("expectation",))


def _met(rule: Rule) -> Html:
    if rule.met is None:
        return muted("-")
    word, colour = ("yes", GREEN) if rule.met else ("no", AMBER if rule.action == "warn" else RED)
    return tag("span", word, style=f"background:{colour};color:#fff;border-radius:3px;padding:0 6px")


def _lately(rule: Rule) -> Html:
    colours = [GREEN if met else RED for met in rule.recent_met]
    return bars(rule.recent, colours, [f"{share(part)} passed" for part in rule.recent])
