"""What notebooks show of values: well-formed, escaped, without anything from outside, and with what matters in sight."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tidemill.display.html import MOST_ROWS
from tidemill.errors import ConfigError, QualityError, SourceError
from tidemill.execution.backfill import ChunkDone, Done
from tidemill.execution.diff import Diff
from tidemill.execution.runs import Manifest
from tidemill.execution.supervise import Outcome, Outcomes
from tidemill.execution.verify import Differing, Verified
from tidemill.intervals import Grain, interval_at, parse_moment
from tidemill.ledger.facts import IntervalResult
from tidemill.ledger.judge import State
from tidemill.ledger.verdicts import Result, Verdict
from tidemill.model import Gate
from tidemill.planning.plan import CheckGate, Chunk, InputPin, Pin, Plan, Stage, Swap
from tidemill.planning.plan import Diff as Compare
from tidemill.planning.selection import LeftOut
from tidemill.quality_report import Rule, Rules
from tidemill.quarantined import Quarantined, Reason, SetAside
from tidemill.reports import Coverage, Row, Status, Statuses

RUDE = '<script>alert("x")</script>&\''


def days(number: int, grain: Grain = Grain.DAY) -> list[str]:
    labels, at = [], parse_moment("2013-01-01")
    for _ in range(number):
        interval = interval_at(grain, at)
        labels.append(interval.label)
        at = interval.end
    return labels


def coverage(*rows: Row, grain: Grain = Grain.DAY, name: str = "delays") -> Coverage:
    return Coverage(name, grain, rows)


def row(label: str, state: State = State.CLEAN, why: str = "", rows: int = 7) -> Row:
    return Row(label, state, rows, why, None)


def rule(name: str = "in_range(v)", **changes: Any) -> Rule:
    made = Rule("", name, "warn", "warning", 3, 1, 30, 2, 28 / 30, (1.0, 0.9, 0.9), (True, True, False))
    return replace(made, **changes)


def status(name: str = "delays", **changes: Any) -> Status:
    made = Status(
        pipeline=name,
        table="data/tables/delays",
        version=40,
        states={"clean": 1, "dirty": 1},
        rows=353,
        watermark="2013-01-03T02:59:00+00:00",
        last_batch=40,
        last_batch_at="2013-01-03T05:00:00+00:00",
        input_rows=1785,
        quarantined=3,
        unread="2 files of events",
        running="process 7 on here",
        backfilling=None,
        trigger="as fast as input comes",
        fingerprint="1a4c7f07aaaa",
        downstream=("weekly",),
        not_clean=(row("2013-01-01", State.DIRTY, "late rows"),),
        recent=(
            {"batch": 39, "at": 1, "input_rows": 10, "rows": 5},
            {"batch": 40, "at": 2, "input_rows": 5, "rows": 2},
        ),
        rules=Rules([rule()]),
    )
    return replace(made, **changes)


def sample(number: int, label: str = "2013-01-01", **fields: Any) -> dict[str, Any]:
    return {"interval": label, "rows": number, "row": json.dumps(fields)}


EWR = {"window_start": "2013-01-01T18:15:00.000Z", "origin": "EWR"}
OLD, NEW = sample(-1, **EWR, flights=11, mean=16.25), sample(1, **EWR, flights=12, mean=39.0)
KEY = ("window_start", "origin")


def manifest(**changes: Any) -> Manifest:
    made = Manifest(
        run="r1",
        chunk=0,
        fingerprint="f",
        pin=7,
        source_end={},
        provisional=False,
        labels=("2013-01-01", "2013-01-02"),
        staged=(),
        replaced=(),
        results={"2013-01-01": IntervalResult(156, None, 9, 8), "2013-01-02": IntervalResult(197)},
        samples=(OLD, NEW),
        changed={"2013-01-01": 6},
    )
    return replace(made, **changes)


def diff(*manifests: Manifest, outcome: str = "staged", key: tuple[str, ...] = KEY) -> Diff:
    return Diff("r1", "delays", key, manifests, tuple(outcome for _ in manifests))


def plan(labels: list[str], *, chunk: int = 31, name: str = "delays", **changes: Any) -> Plan:
    intervals = [interval_at(Grain.DAY, parse_moment(label)) for label in labels]
    parts = [tuple(intervals[i : i + chunk]) for i in range(0, len(intervals), chunk)]
    made = Plan(
        pipeline=name,
        fingerprint="1a4c7f07aaaa",
        grain=Grain.DAY,
        pin=Pin(41, True, {}, {"events": InputPin("the 39 files that the stream has read", [], 565_760)}),
        chunks=tuple(
            Chunk(number, (Stage(part), Compare(KEY), CheckGate(Gate()), Swap(False, "one log commit")), part)
            for number, part in enumerate(parts)
        ),
        why=dict.fromkeys(labels, "dirty: late rows"),
        left_out=(
            LeftOut(
                interval_at(Grain.DAY, parse_moment("2013-02-01")), "open: the stream may still add rows"
            ),
        ),
        downstream=("weekly",),
    )
    return replace(made, **changes)


def shown(value: Any) -> ET.Element:
    """What a notebook shows: one well-formed piece that nothing outside the page has a part in."""
    text = value._repr_html_()
    page = ET.fromstring(text)  # noqa: S314  our own markup
    assert not {each.tag for each in page.iter()} & {"script", "link", "img", "iframe", "style"}
    assert not [word for word in ("http", "url(", "@import", "onclick") if word in text]
    return page


def text_of(part: ET.Element) -> str:
    return " ".join(part.itertext())


def rows_of(part: ET.Element) -> list[list[str]]:
    """The lines of the tables that are in sight."""
    folded = {line for more in part.iter("details") for line in more.iter("tr")}
    return [["".join(cell.itertext()) for cell in line] for line in part.iter("tr") if line not in folded]


def cells_of(page: ET.Element) -> list[ET.Element]:
    return [each for each in page.iter("span") if each.get("title")]


def test_whatever_the_text_it_stays_text() -> None:
    rude = [
        coverage(row("2013-01-01", State.DIRTY, RUDE), name=RUDE),
        status(
            RUDE,
            running=RUDE,
            unread=RUDE,
            downstream=(RUDE,),
            rules=Rules([rule(RUDE, of=RUDE, action=RUDE)]),
        ),
        Rules([rule(RUDE)]),
        plan(["2013-01-01"], name=RUDE, why={"2013-01-01": RUDE}, downstream=(RUDE,)),
        diff(manifest(samples=(sample(1, **{RUDE: RUDE}),), refused=RUDE)),
        Done("r1", RUDE, (), QualityError(RUDE)),
        Verified(RUDE, ("2013-01-01",), (Differing("2013-01-01", 1, 0, RUDE),), (sample(1, **{RUDE: RUDE}),)),
        Quarantined(
            RUDE, "p", 1, (Reason(RUDE, RUDE, 1),), (SetAside("e", (RUDE,), RUDE, None, "r", 1, "2013"),)
        ),
    ]
    for value in rude:
        assert RUDE in text_of(shown(value)), value


def test_a_year_of_days_has_a_cell_for_each_and_a_table_of_those_that_are_not_clean() -> None:
    labels = days(365)
    dirty = {labels[40]: "late rows", labels[200]: "late rows"}
    year = coverage(
        *(row(each, State.DIRTY if each in dirty else State.CLEAN, dirty.get(each, "")) for each in labels)
    )
    page = shown(year)
    titles = [each.get("title", "") for each in cells_of(page)]
    assert [title.split()[0] for title in titles] == labels
    assert [title.partition("  (")[0] for title in titles if "dirty" in title] == [
        f"{label}  dirty: late rows" for label in dirty
    ]
    # Colour alone does not reach everyone.
    assert ["".join(each.itertext()) for each in cells_of(page) if "dirty" in each.get("title", "")] == [
        "d",
        "d",
    ]
    assert rows_of(page)[1:] == [[label, "dirty", "7", "late rows"] for label in dirty]
    assert "363 clean" in text_of(page)
    assert "2 dirty" in text_of(page)


@pytest.mark.parametrize(("grain", "lines"), [(Grain.HOUR, 2), (Grain.DAY, 2), (Grain.MONTH, 4)])
def test_a_strip_has_a_line_for_each_day_month_or_year(grain: Grain, lines: int) -> None:
    page = shown(coverage(*(row(label) for label in days(40, grain)), grain=grain))
    strip = [each for each in page.iter("div") if any(cell.get("title") for cell in each.findall("span"))]
    assert len(strip) == lines
    assert [cell.get("title", "").split()[0] for cell in cells_of(page)] == days(40, grain)


def test_a_gap_between_intervals_is_a_gap_in_the_strip() -> None:
    page = shown(coverage(row("2013-01-02"), row("2013-01-04")))
    (line,) = (each for each in page.iter("div") if any(cell.get("title") for cell in each.findall("span")))
    assert [bool(cell.get("title")) for cell in line.findall("span")[1:]] == [False, True, False, True]


def test_of_very_many_lines_the_last_are_shown_and_the_others_counted() -> None:
    labels = days(24 * 100, Grain.HOUR)
    many = coverage(
        *(row(each, State.STALE if each < "2013-01-02" else State.CLEAN) for each in labels), grain=Grain.HOUR
    )
    page = shown(many)
    assert len(cells_of(page)) == 24 * 62
    assert "before 2013-02-08:" in text_of(page)
    assert "24 stale" in text_of(page)


def test_of_many_intervals_the_first_are_in_sight_and_the_others_are_there() -> None:
    labels = days(50)
    page = shown(coverage(*(row(each, State.MISSING) for each in labels)))
    assert [line[0] for line in rows_of(page)[1:]] == labels[:MOST_ROWS]
    assert "30 more" in text_of(page)
    assert labels[-1] in text_of(page)


def test_coverage_of_nothing() -> None:
    assert "no interval is known yet" in text_of(shown(coverage()))


def test_a_plan_says_what_why_and_how() -> None:
    page = shown(plan(["2013-01-01", "2013-01-02"]))
    words = text_of(page)
    for part in (
        "recompute 2 intervals in 1 chunk",
        "with code 1a4c7f07",
        "pinned at version 41",
        "the 39 files that the stream has read, 552.5 KB",
        "diff by window_start, origin",
        "at most 20% may vanish",
        "swap in one commit, by one log commit",
        "weekly",
    ):
        assert part in words
    assert ["1", "dirty", "2013-01-01, 2013-01-02", "late rows"] in rows_of(page)
    assert ["2013-02-01", "open: the stream may still add rows"] in rows_of(page)


def test_a_plan_of_a_year_in_chunks_of_a_day_remains_readable() -> None:
    page = shown(plan(days(365), chunk=1))
    assert len(cells_of(page)) == 365
    assert len([line for line in rows_of(page) if "late rows" in line]) == MOST_ROWS
    assert "345 more" in text_of(page)


def test_a_plan_of_nothing() -> None:
    assert "nothing to do" in text_of(shown(plan([])))


def test_in_a_diff_the_cells_that_differ_stand_out_and_no_others() -> None:
    page = shown(diff(manifest()))
    assert ["2013-01-01", "156", "+3", "-2", "6", "staged"] in rows_of(page)
    assert ["2013-01-02", "197", "", "", "", "equal"] in rows_of(page)
    old, new = (line for line in page.iter("tr") if line[0].text in {"-", "+"})
    assert ["".join(cell.itertext()) for cell in old] == ["-", "2013-01-01", *EWR.values(), "11", "16.25"]
    assert ["".join(cell.itertext()) for cell in new] == ["+", "2013-01-01", *EWR.values(), "12", "39.0"]
    for line in (old, new):
        assert ["font-weight:bold" in cell.get("style", "") for cell in line[2:]] == [
            False,
            False,
            True,
            True,
        ]


def test_a_diff_is_a_sequence_of_what_was_staged() -> None:
    one, other = manifest(), manifest(chunk=1)
    found = diff(one, other)
    assert (list(found), len(found), found[1], found[:1]) == ([one, other], 2, other, (one,))
    assert not diff()
    assert "nothing is staged yet" in text_of(shown(diff()))


def test_a_diff_says_what_refused_it_and_which_expectations_were_not_met() -> None:
    unmet = Verdict("", (Result("in_range(v)", False, 5, 4, 1), Result("there(v)", True, 5, 5, 0)))
    words = text_of(
        shown(diff(manifest(refused="20 of 21 rows would vanish", verdicts=(unmet,)), outcome="refused"))
    )
    assert "20 of 21 rows would vanish" in words
    assert "in_range(v): 1 of 4 unexpected" in words
    assert "there(v)" not in words


def test_a_backfill_and_a_verification() -> None:
    done = Done(
        "r1", "delays", (ChunkDone(0, "swapped", manifest()), ChunkDone(1, "equal", manifest(chunk=1)))
    )
    assert ["1", "2013-01-01", "156", "+3", "-2", "6", "swapped"] in rows_of(shown(done))
    assert "nothing to do" in text_of(shown(Done("r1", "delays", ())))
    holds = Verified("delays", ("2013-01-01",), (), ())
    assert "1 interval recomputed: all equal" in text_of(shown(holds))
    differs = Verified(
        "delays", ("2013-01-01",), (Differing("2013-01-01", 1, 1, "differs"),), (OLD, NEW), KEY
    )
    page = shown(differs)
    assert ["2013-01-01", "+1", "-1", "differs"] in rows_of(page)
    assert [line[0] for line in rows_of(page) if line[0] in {"-", "+"}] == ["-", "+"]
    assert "no clean interval" in text_of(shown(Verified("delays", (), (), ())))


def test_of_many_differing_rows_the_first_pairs_are_in_sight() -> None:
    samples = tuple(sample(n, id=i, v=n) for i in range(30) for n in (-1, 1))
    page = shown(diff(manifest(samples=samples), key=("id",)))
    assert len([line for line in rows_of(page) if line[0] in {"-", "+"}]) == 2 * MOST_ROWS
    assert "10 more" in text_of(page)


def test_live_runs_say_how_they_ended() -> None:
    failed = SourceError("the folder is gone", next_step="put it back")
    page = shown(Outcomes([Outcome("delays", 20), Outcome("departures", 1, failed)]))
    assert rows_of(page)[1:] == [
        ["delays", "ok", "20 batches", ""],
        ["departures", "failed", "1 batch", "the folder is gone put it back"],
    ]


def test_a_status_has_numbers_batches_expectations_and_what_is_not_clean() -> None:
    page = shown(Statuses([status()]))
    assert ["rows", "353 in 2 intervals, 1,785 read"] in rows_of(page)
    assert ["runs", "as fast as input comes; now by process 7 on here"] in rows_of(page)
    assert ["quarantined", "3 rows"] in rows_of(page)
    assert "dropped" not in dict(row for row in rows_of(page) if len(row) == 2)
    assert ["dropped", "2 rows of batches, by rules"] in rows_of(shown(Statuses([status(dropped=2)])))
    assert ["2013-01-01", "dirty", "7", "late rows"] in rows_of(page)
    assert ["in_range(v)", "the table", "warn", "no", "93.33%", "2", ""] in rows_of(page)
    titles = [each.get("title") for each in cells_of(page)]
    assert "batch 39: 10 read, 5 written" in titles
    assert titles.count("90.00% passed") == 2
    assert status().as_json()["rules"][0]["met"] is False


def test_several_statuses_are_a_line_each() -> None:
    new = status(
        "weekly",
        version=-1,
        states={},
        rows=0,
        watermark=None,
        last_batch=None,
        unread=None,
        running=None,
        rules=Rules(),
    )
    head, first, second = rows_of(shown(Statuses([status(), new])))
    assert head == ["pipeline", "states", "rows", "watermark", "last batch", "unread", "runs", "rules"]
    assert first[:4] == ["delays", "1 clean1 dirty", "353", "2013-01-03 02:59:00"]
    assert second == ["weekly", "no table yet", "", "", "", "", "not running now", ""]


def test_a_pipeline_that_does_not_load_is_a_line_too() -> None:
    from tidemill.display.status import statuses_html

    page = ET.fromstring(statuses_html([("a", status("a")), ("b", ConfigError("no such module"))]))  # noqa: S314
    assert rows_of(page)[2][:2] == ["b", "errorno such module"]


def test_what_failed_is_not_rounded_away() -> None:
    nearly = rule(passed=0.999999, recent=(0.999999, 1.0), recent_met=(True, True))
    page = shown(Rules([nearly, rule("not_yet(v)", passed=None, recent=(), recent_met=())]))
    assert "99.9999%" in text_of(page)
    assert "not judged" in text_of(page)
    heights = [each.get("style", "").split("height:")[1].split("px")[0] for each in cells_of(page)]
    assert int(heights[0]) < int(heights[1])


def test_a_model_that_is_one_interval_is_one_cell_and_one_bar() -> None:
    model = coverage(row("all", State.STALE, "written by another"), grain=Grain.ALL)

    assert [cell.get("title", "").split()[0] for cell in cells_of(shown(model))] == ["all"]
    chart = model.chart().to_dict()
    assert chart["encoding"]["x"] == {"field": "interval", "type": "nominal", "title": None}
    assert "x2" not in chart["encoding"]


def test_charts_hold_the_values() -> None:
    chart = coverage(row("2013-01-01"), row("2013-01-02", State.DIRTY, "late rows", rows=3)).chart().to_dict()
    (values,) = chart["datasets"].values()
    assert [(each["start"], each["end"], each["state"], each["rows"]) for each in values] == [
        ("2013-01-01T00:00:00+00:00", "2013-01-02T00:00:00+00:00", "clean", 7),
        ("2013-01-02T00:00:00+00:00", "2013-01-03T00:00:00+00:00", "dirty", 3),
    ]
    (passed,) = Rules([rule()]).chart().to_dict()["datasets"].values()
    assert [(each["back"], each["passed"]) for each in passed] == [(-2, 1.0), (-1, 0.9), (0, 0.9)]
