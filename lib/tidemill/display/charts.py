"""Charts for a notebook: Altair's own values, so that a user may change them, combine them and keep them.

They are given as Vega-Lite has them, which Altair checks against its schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from tidemill.display.html import COLOURS
from tidemill.intervals import Grain, parse_label
from tidemill.ledger.judge import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidemill.quality_report import Rule
    from tidemill.reports import Coverage


def coverage_chart(coverage: Coverage) -> alt.Chart:
    """Rows by interval, in the colour of its state."""
    states = [state.value for state in State]
    values = []
    for row in coverage.rows:
        interval = parse_label(coverage.grain, row.interval)
        about = {"interval": row.interval, "state": row.state.value, "rows": row.rows, "why": row.why}
        values.append({**about, "start": interval.start.isoformat(), "end": interval.end.isoformat()})
    # The scale is UTC, as intervals are: the reader's own zone would move days.
    time = {"type": "temporal", "title": None, "scale": {"type": "utc"}}
    whole = coverage.grain is Grain.ALL  # no place on an axis of time
    place: dict[str, Any] = {"x": {"field": "start", **time}, "x2": {"field": "end"}}
    encoding = {
        **({"x": {"field": "interval", "type": "nominal", "title": None}} if whole else place),
        "y": {"field": "rows", "type": "quantitative"},
        "color": {
            "field": "state",
            "type": "nominal",
            "scale": {"domain": states, "range": [COLOURS[state] for state in states]},
        },
        "tooltip": [{"field": name} for name in ("interval", "state", "rows", "why")],
    }
    return _chart(f"{coverage.pipeline}: rows by interval", values, "bar", encoding)


def rules_chart(rules: Sequence[Rule]) -> alt.Chart:
    """The share that passed each expectation, judgement by judgement, the last one at the right."""
    values = [
        {
            "expectation": rule.id,
            "of": rule.of or "the table",
            "back": place - len(rule.recent),
            "passed": part,
        }
        for rule in rules
        for place, part in enumerate(rule.recent, start=1)
    ]
    encoding = {
        "x": {"field": "back", "type": "quantitative", "title": "batches and chunks ago"},
        "y": {"field": "passed", "type": "quantitative", "axis": {"format": "%"}, "scale": {"zero": False}},
        "color": {"field": "expectation", "type": "nominal"},
        "tooltip": [{"field": name} for name in ("expectation", "of", "passed")],
    }
    return _chart("passed lately", values, {"type": "line", "point": True}, encoding)


def _chart(title: str, values: list[dict[str, Any]], mark: Any, encoding: dict[str, Any]) -> alt.Chart:
    spec = {"title": title, "data": {"values": []}, "mark": mark, "encoding": encoding}
    made: alt.Chart = alt.Chart.from_dict({**spec, "width": 600, "height": 160})
    # Given at once, every value would be checked against the schema: a minute for a year of hours.
    made.data = alt.InlineData(values=values)
    return made
