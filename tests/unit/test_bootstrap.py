"""What a bootstrap owes: how coverage, the kept decision and the cut between history and stream go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.errors import StateError
from tidemill.execution.survey import Survey
from tidemill.intervals import Grain
from tidemill.ledger import bootstraps
from tidemill.ledger.bootstraps import Begun
from tidemill.ledger.coverage import Coverage, Shape, fold_all
from tidemill.ledger.facts import Commit, Fact, IntervalResult, LiveBatch, Swap, from_json, to_json
from tidemill.ledger.judge import State, judge
from tidemill.ledger.verdicts import Verdict
from tidemill.model import Pipeline

SHAPE = Shape(Grain.DAY, timedelta(0), timedelta(0))
D1, D2, D3 = "2024-05-01", "2024-05-02", "2024-05-03"
DAY = 86_400
FIRST = int(datetime(2024, 5, 1, tzinfo=UTC).timestamp())
BOTH = ((FIRST, FIRST + 2 * DAY),)


def survey(**more: Any) -> LiveBatch:
    return LiveBatch("p", "run", "code", "query", 0, {}, {}, stateful=False, owed=BOTH, **more)


def live(label: str, number: int = 1) -> LiveBatch:
    return LiveBatch("p", "run", "code", "query", number, {}, {}, stateful=False, added={label: 3})


def swap(label: str, pin: int, left_out: tuple[int, int] = (0, 0)) -> Swap:
    result = {label: IntervalResult(5, "h", added=5)}
    return Swap("p", "back", 0, "code", pin, {}, result, left_out=left_out)


def states(*facts: Fact) -> tuple[Coverage, dict[str, State]]:
    commits = [Commit(version, 1000 * version, fact) for version, fact in enumerate(facts)]
    coverage = fold_all(Coverage(), commits, SHAPE)
    return coverage, {str(each.interval): each.state for each in judge(coverage, SHAPE, "code")}


def test_what_is_owed_is_missing_until_a_swap_has_read_it():
    assert states(survey())[1] == {D1: State.MISSING, D2: State.MISSING}
    # Rows that the stream adds meanwhile do not make it whole; the swap of one interval is one interval's.
    assert states(survey(), live(D1), live(D3, 2))[1] == {
        D1: State.MISSING,
        D2: State.MISSING,
        D3: State.CLEAN,
    }
    assert states(survey(), live(D1), swap(D1, pin=0))[1] == {D1: State.CLEAN, D2: State.MISSING}
    # Rows come after it as to any interval.
    coverage, found = states(survey(), swap(D1, pin=0), live(D1))
    assert (found[D1], coverage.intervals[D1].rows) == (State.CLEAN, 8)


def test_a_swap_that_read_less_than_was_counted_clears_nothing():
    second = LiveBatch("p", "run", "code", "query", 1, {}, {}, stateful=False, owed=BOTH)
    assert states(survey(), second, swap(D1, pin=0))[1][D1] is State.MISSING
    assert states(survey(), second, swap(D1, pin=1))[1][D1] is State.CLEAN


def test_what_the_tables_rules_left_out_of_history_counts_once():
    first, again = swap(D1, pin=0, left_out=(2, 1)), swap(D1, pin=1, left_out=(2, 1))
    coverage, _ = states(survey(quarantined=4), first, again)
    assert (coverage.quarantined, coverage.dropped) == (6, 1)


def test_facts_read_back_as_they_were_written():
    for fact in (survey(), swap(D1, pin=0, left_out=(2, 1)), swap(D1, pin=0)):
        assert from_json(to_json(fact)) == fact
    assert "left_out" not in to_json(swap(D1, pin=0))


def pipeline(**more: Any) -> Pipeline:
    files = {"path": "in", "format": "json", "schema": "at TIMESTAMP"}
    values = {
        "name": "p",
        "source": {"files": files},
        "event_time": {"column": "at", "watermark": "1h"},
        "interval": "day",
        "sink": {"delta": {"path": "out"}},
    }
    return Pipeline.model_validate(values | more)


@pytest.mark.parametrize(
    ("watermark", "more", "until"),
    [
        ("2024-05-03T07:00", {}, "2024-05-03"),
        ("2024-05-03T00:00", {}, "2024-05-03"),
        # The second day's windows may still get rows an hour after it.
        ("2024-05-03T00:30", {"lookahead": "1h"}, "2024-05-02"),
        ("2024-05-03T00:30", {"lookback": "1h"}, "2024-05-02"),
        ("2024-05-03T02:00", {"lookahead": "1h", "lookback": "1h"}, "2024-05-03"),
    ],
)
def test_history_ends_before_what_the_watermark_leaves_open(watermark: str, more: dict[str, str], until: str):
    at = datetime.fromisoformat(watermark).replace(tzinfo=UTC)
    found = Survey.before_watermark(pipeline(**more), at)
    assert found.until == datetime.fromisoformat(until).replace(tzinfo=UTC)
    assert Survey.of(found.kept) == found


def test_a_batch_owes_history_and_has_reached_the_rest():
    fact = LiveBatch(
        "p", "run", "code", "query", 0, {}, {}, stateful=True, reached=(D1, D2, D3, "2024-05-07")
    )
    part = Survey(datetime(2024, 5, 3, tzinfo=UTC)).owing(pipeline(), fact)
    assert (part.owed, part.reached) == (BOTH, (D3, "2024-05-07"))
    whole = Survey.of(None).owing(pipeline(), fact)
    assert whole.owed == ((FIRST, FIRST + 3 * DAY), (FIRST + 6 * DAY, FIRST + 7 * DAY))
    assert whole.reached == ()
    nothing = Survey.before_watermark(pipeline(), None)
    assert nothing.owing(pipeline(), fact) == fact
    assert Survey.of(nothing.kept) == nothing


def test_what_is_found_of_the_tables_rows_waits_for_history():
    of_input, of_table = Verdict("events", ()), Verdict("", ())
    fact = LiveBatch("p", "run", "code", "query", 0, {}, {}, stateful=False, verdicts=(of_input, of_table))
    assert Survey.of(None).owing(pipeline(), fact).verdicts == (of_input,)
    assert Survey.in_one_batch().owing(pipeline(), fact).verdicts == (of_input, of_table)


def test_a_stream_waits_for_a_bootstrap_that_was_interrupted(tmp_path: Path):
    state = str(tmp_path)
    bootstraps.check_done(state, "p")
    bootstraps.begin(state, Begun("run", "2024-05-03T00:00:00+00:00"))
    with pytest.raises(StateError, match="a bootstrap was interrupted") as raised:
        bootstraps.check_done(state, "p")
    assert raised.value.next_step == "go on with it: tidemill bootstrap p"
    found = bootstraps.read(state)
    assert found is not None
    assert bootstraps.pinned(state, found) == bootstraps.read(state)
    bootstraps.check_done(state, "p")
    (tmp_path / "bootstrap.json").write_text("{")
    with pytest.raises(StateError, match="is damaged"):
        bootstraps.check_done(state, "p")
